//! Where packet buffers come from.

use std::{
    ffi::{CStr, CString},
    ptr::NonNull,
    sync::Arc,
};

use dpdk_sys as sys;

use crate::{Burst, Eal, Error, Mbuf, error::errno_of};

/// How large a [`Mempool`] is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MempoolConfig {
    /// Number of buffers. One less than a power of two uses memory best. Each takes `data_room` + 192 bytes.
    pub buffers: u32,
    /// Bytes per buffer, [`Mbuf::HEADROOM`] included.
    pub data_room: u16,
    /// Buffers that each registered thread may keep to itself, 0 to 512.
    pub cache: u32,
    /// NUMA node; `None` takes any.
    pub numa_node: Option<u16>,
}

impl Default for MempoolConfig {
    /// 16383 buffers for frames of up to 2048 bytes: 37 MB.
    fn default() -> Self {
        Self { buffers: 16 * 1024 - 1, data_room: 2048 + Mbuf::HEADROOM, cache: 256, numa_node: None }
    }
}

/// A pool of packet buffers, for any number of threads and ports.
///
/// Lives as long as the process: ports, packets in flight and drivers refer to it in ways that nothing counts.
#[derive(Debug, Clone)]
pub struct Mempool {
    raw: NonNull<sys::rte_mempool>,
    name: Arc<str>,
}

// SAFETY: a mempool's ring takes and gives from any number of threads; the caches are per registered thread.
unsafe impl Send for Mempool {}
// SAFETY: as above.
unsafe impl Sync for Mempool {}

impl Mempool {
    /// Creates a pool; its name is unique in the process.
    ///
    /// # Errors
    ///
    /// When there is not enough memory, or the name is taken or longer than 25 bytes.
    pub fn create(_eal: Eal, name: &str, config: &MempoolConfig) -> Result<Self, Error> {
        let c_name = CString::new(name).map_err(|_| Error::NulByte { argument: name.to_owned() })?;
        let numa_node = config.numa_node.map_or(-1, i32::from);
        // SAFETY: EAL runs, as `_eal` proves; the name outlives the call, which copies it.
        let raw = unsafe {
            sys::rte_pktmbuf_pool_create(
                c_name.as_ptr(),
                config.buffers,
                config.cache,
                0,
                config.data_room,
                numa_node,
            )
        };
        match NonNull::new(raw) {
            Some(raw) => Ok(Self { raw, name: name.into() }),
            None => Err(Error::Mempool {
                name: name.to_owned(),
                buffers: config.buffers,
                data_room: config.data_room,
                errno: errno_of(-1),
            }),
        }
    }

    /// A buffer with no data and all of its headroom. `None` when the pool is empty.
    #[inline]
    pub fn alloc(&self) -> Option<Mbuf> {
        let mut packet = std::ptr::null_mut();
        // SAFETY: the pool is valid; on success it has written one mbuf that nobody owns.
        let ret = unsafe { sys::shim_pktmbuf_alloc_bulk(self.raw.as_ptr(), &raw mut packet, 1) };
        if ret != 0 {
            return None;
        }
        // SAFETY: see above.
        NonNull::new(packet).map(|raw| unsafe { Mbuf::from_raw(raw) })
    }

    /// Adds `count` fresh buffers to `burst`. False, and nothing done, when the pool or the burst has not that many.
    #[inline]
    #[must_use]
    pub fn alloc_burst<const N: usize>(&self, burst: &mut Burst<N>, count: usize) -> bool {
        let spare = burst.spare();
        let Some(count_u32) = u32::try_from(count).ok().filter(|_| count <= spare.len()) else {
            return false;
        };
        // SAFETY: `spare` has room for `count` pointers, and `Mbuf` is a transparent pointer to an mbuf.
        let ret =
            unsafe { sys::shim_pktmbuf_alloc_bulk(self.raw.as_ptr(), spare.as_mut_ptr().cast(), count_u32) };
        if ret != 0 {
            return false;
        }
        // SAFETY: all `count` were written: the call gives all or none.
        unsafe { burst.grow(count) };
        true
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Bytes per buffer, headroom included.
    pub fn data_room(&self) -> u16 {
        // SAFETY: the pool is valid for as long as the process.
        unsafe { sys::shim_pktmbuf_data_room(self.raw.as_ptr()) }
    }

    /// Buffers that can be taken now; an estimate while others take and give.
    pub fn available(&self) -> u32 {
        // SAFETY: as above.
        unsafe { sys::rte_mempool_avail_count(self.raw.as_ptr()) }
    }

    /// Buffers that ports, packets and drivers hold; an estimate while others take and give.
    pub fn in_use(&self) -> u32 {
        // SAFETY: as above.
        unsafe { sys::rte_mempool_in_use_count(self.raw.as_ptr()) }
    }

    pub(crate) fn as_ptr(&self) -> *mut sys::rte_mempool {
        self.raw.as_ptr()
    }
}

/// What DPDK calls an error number, for logs.
pub(crate) fn c_str(raw: *const std::ffi::c_char) -> String {
    if raw.is_null() {
        return String::new();
    }
    // SAFETY: not null; every string DPDK hands out ends in NUL and lives as long as its device.
    unsafe { CStr::from_ptr(raw) }.to_string_lossy().into_owned()
}
