//! EAL: DPDK's environment, started once per process.

mod derive;
mod detect;
mod environment;

use std::{
    ffi::CString,
    marker::PhantomData,
    sync::{
        OnceLock,
        atomic::{AtomicBool, Ordering},
    },
};

use dpdk_sys as sys;
use nix::errno::Errno;

pub use self::{
    derive::{Derived, Options, PciDevice, derive},
    environment::{Environment, HugepagePool, HugetlbMount, PciFunction},
};
use crate::{CpuSet, Error, error::errno_of, mempool::c_str};

/// Proof that EAL runs. It does so until the process ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Eal(());

static STARTING: AtomicBool = AtomicBool::new(false);
static RUNNING: OnceLock<Eal> = OnceLock::new();

impl Eal {
    /// Starts EAL with the arguments of [`derive`], or others. `program` names the process in EAL's messages.
    ///
    /// EAL pins the thread that starts it. That is undone: the calling thread may run afterwards where it could before.
    ///
    /// # Errors
    ///
    /// When EAL runs already, does not start, or a driver has the flag of our [notes](crate::Mbuf::note). It cannot be tried
    /// again then: EAL leaves things behind.
    pub fn init(program: &str, arguments: &[String]) -> Result<Self, Error> {
        let c_arguments = std::iter::once(program)
            .chain(arguments.iter().map(String::as_str))
            .map(|argument| {
                CString::new(argument).map_err(|_| Error::NulByte { argument: argument.to_owned() })
            })
            .collect::<Result<Vec<_>, _>>()?;
        if STARTING.swap(true, Ordering::AcqRel) {
            return Err(Error::AlreadyInitialised);
        }
        let cpus = CpuSet::of_this_thread();
        let count = i32::try_from(c_arguments.len()).unwrap_or(i32::MAX);
        // EAL keeps pointers to its arguments, and permutes them: they live as long as the process.
        let mut pointers: Vec<_> = c_arguments.into_iter().map(CString::into_raw).collect();
        pointers.push(std::ptr::null_mut());
        // SAFETY: an array of `count` C strings and a null pointer, as main's; called once.
        let ret = unsafe { sys::rte_eal_init(count, pointers.leak().as_mut_ptr()) };
        if let Ok(cpus) = cpus
            && let Err(errno) = cpus.apply_to_this_thread()
        {
            tracing::warn!(%cpus, %errno, "cannot let the thread that started EAL run where it could before");
        }
        if ret < 0 {
            return Err(Error::EalInit { arguments: arguments.to_vec(), errno: errno_of(ret) });
        }
        // SAFETY: EAL runs, and no packet does yet.
        if unsafe { sys::shim_reserve_note() } < 0 {
            return Err(Error::NoteFlag { errno: Errno::from_raw(sys::shim_errno()) });
        }
        Ok(*RUNNING.get_or_init(|| Self(())))
    }

    /// EAL, when it runs.
    pub fn current() -> Option<Self> {
        RUNNING.get().copied()
    }

    /// DPDK's version, e.g. `DPDK 22.11.11`.
    pub fn version(self) -> String {
        // SAFETY: returns a constant string.
        c_str(unsafe { sys::rte_version() })
    }

    /// Makes the calling thread one of EAL's, on a CPU of its own when one is given. Whatever polls queues should be one:
    /// mempools keep a cache for each, without which every buffer is fetched from the shared ring.
    ///
    /// # Errors
    ///
    /// When the CPU is not allowed, or there are 128 such threads already.
    pub fn register_thread(self, cpu: Option<u32>) -> Result<WorkerThread, Error> {
        if let Some(cpu) = cpu {
            let set: CpuSet = std::iter::once(cpu).collect();
            set.apply_to_this_thread().map_err(|errno| Error::Pin { cpu, errno })?;
        }
        // SAFETY: EAL runs. A thread that is one of EAL's already is left as it is.
        if unsafe { sys::rte_thread_register() } < 0 {
            let code = sys::shim_errno();
            return Err(Error::RegisterThread { errno: Errno::from_raw(code) });
        }
        Ok(WorkerThread { lcore: sys::shim_lcore_id(), _this_thread: PhantomData })
    }
}

/// The calling thread is one of EAL's for as long as this lives.
#[derive(Debug)]
pub struct WorkerThread {
    lcore: u32,
    _this_thread: PhantomData<*const ()>,
}

impl WorkerThread {
    /// Its number among EAL's threads.
    pub fn lcore(&self) -> u32 {
        self.lcore
    }
}

impl Drop for WorkerThread {
    fn drop(&mut self) {
        // SAFETY: this thread registered, and the guard cannot leave it.
        unsafe { sys::rte_thread_unregister() }
    }
}
