//! Keeping `net_tap` from using signals.

use std::{mem::MaybeUninit, ptr, sync::Mutex, sync::MutexGuard, sync::PoisonError};

/// One at a time: handlers belong to the process.
static SIGNALS: Mutex<()> = Mutex::new(());

/// While it lives, `net_tap` finds no real-time signal to use.
pub(super) struct NoRxSignals {
    ignored: Vec<i32>,
    _one_at_a_time: MutexGuard<'static, ()>,
}

/// Makes `net_tap` read its TAPs whenever it is polled.
///
/// For each descriptor it opens, the driver looks for a real-time signal whose handler is the default one, and has the
/// kernel send it whenever something can be read. Without such a signal it goes without ("No Rx trigger signal
/// available", `tun_alloc` in rte_eth_tap.c of 22.11 to 26.07), which is what we want: see
/// [`Device::tap`](super::Device::tap). So the free ones are not the default for as long as descriptors are opened.
pub(super) fn without_rx_signals() -> NoRxSignals {
    let guard = SIGNALS.lock().unwrap_or_else(PoisonError::into_inner);
    let ignored = (libc::SIGRTMIN() + 1..libc::SIGRTMAX())
        .filter(|&signal| handler(signal) == Some(libc::SIG_DFL))
        .filter(|&signal| set_handler(signal, libc::SIG_IGN))
        .collect();
    NoRxSignals { ignored, _one_at_a_time: guard }
}

impl Drop for NoRxSignals {
    fn drop(&mut self) {
        for &signal in &self.ignored {
            set_handler(signal, libc::SIG_DFL);
        }
    }
}

fn handler(signal: i32) -> Option<libc::sighandler_t> {
    let mut action = MaybeUninit::<libc::sigaction>::zeroed();
    // SAFETY: only asks; the structure is ours to write.
    let ret = unsafe { libc::sigaction(signal, ptr::null(), action.as_mut_ptr()) };
    // SAFETY: zero is a value of it, and on success the kernel's answer is.
    (ret == 0).then(|| unsafe { action.assume_init() }.sa_sigaction)
}

fn set_handler(signal: i32, handler: libc::sighandler_t) -> bool {
    // SAFETY: zero is a value of the structure: no flags, empty mask.
    let mut action: libc::sigaction = unsafe { MaybeUninit::zeroed().assume_init() };
    action.sa_sigaction = handler;
    // SAFETY: neither default nor ignore runs any code of ours.
    unsafe { libc::sigaction(signal, &raw const action, ptr::null_mut()) == 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn real_time_signals_are_taken_and_given_back() {
        let count = || {
            (libc::SIGRTMIN() + 1..libc::SIGRTMAX()).filter(|&s| handler(s) == Some(libc::SIG_DFL)).count()
        };
        let before = count();
        let none = without_rx_signals();
        assert_eq!(count(), 0);
        drop(none);
        assert_eq!(count(), before);
    }
}
