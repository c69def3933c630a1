//! Sets of CPUs.

use std::{collections::BTreeSet, fmt, str::FromStr};

use nix::{errno::Errno, sched, unistd::Pid};

/// A set of CPUs, written as the kernel does: `0-3,8`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CpuSet(BTreeSet<u32>);

/// Text that is no set of CPUs.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is no list of CPUs: expected e.g. 0-3,8 with numbers below {limit}", limit = CpuSet::LIMIT)]
pub struct CpuSetError {
    text: String,
}

impl CpuSet {
    /// CPUs are numbered below this; what `sched_setaffinity` of the C library takes.
    pub const LIMIT: u32 = 1024;

    /// The CPUs, in order.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = u32> {
        self.0.iter().copied()
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// None at all.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether a CPU is in it.
    pub fn contains(&self, cpu: u32) -> bool {
        self.0.contains(&cpu)
    }

    /// Those in both.
    #[must_use]
    pub fn intersection(&self, other: &Self) -> Self {
        Self(&self.0 & &other.0)
    }

    /// Those in this one only.
    #[must_use]
    pub fn difference(&self, other: &Self) -> Self {
        Self(&self.0 - &other.0)
    }

    /// The CPUs that the calling thread may run on.
    ///
    /// # Errors
    ///
    /// When the machine has more than [`LIMIT`](Self::LIMIT).
    pub fn of_this_thread() -> Result<Self, Errno> {
        let set = sched::sched_getaffinity(Pid::from_raw(0))?;
        Ok((0..Self::LIMIT).filter(|&cpu| set.is_set(cpu as usize).unwrap_or(false)).collect())
    }

    /// Lets the calling thread, and those it starts from now on, run on these CPUs only.
    ///
    /// # Errors
    ///
    /// When none of them is allowed.
    pub fn apply_to_this_thread(&self) -> Result<(), Errno> {
        let mut set = sched::CpuSet::new();
        for cpu in self.iter() {
            set.set(cpu as usize)?;
        }
        sched::sched_setaffinity(Pid::from_raw(0), &set)
    }
}

impl FromIterator<u32> for CpuSet {
    /// Leaves out what is not below [`LIMIT`](CpuSet::LIMIT).
    fn from_iter<T: IntoIterator<Item = u32>>(cpus: T) -> Self {
        Self(cpus.into_iter().filter(|&cpu| cpu < Self::LIMIT).collect())
    }
}

impl FromStr for CpuSet {
    type Err = CpuSetError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let error = || CpuSetError { text: text.to_owned() };
        let number = |text: &str| text.trim().parse::<u32>().ok().filter(|&cpu| cpu < Self::LIMIT);
        let mut cpus = BTreeSet::new();
        for part in text.trim().split(',').filter(|part| !part.trim().is_empty()) {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let (first, last) = number(first).zip(number(last)).ok_or_else(error)?;
            if first > last {
                return Err(error());
            }
            cpus.extend(first..=last);
        }
        Ok(Self(cpus))
    }
}

impl fmt::Display for CpuSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = self.iter().peekable();
        let mut separator = "";
        while let Some(first) = rest.next() {
            let mut last = first;
            while let Some(next) = rest.next_if_eq(&(last + 1)) {
                last = next;
            }
            if first == last {
                write!(f, "{separator}{first}")?;
            } else {
                write!(f, "{separator}{first}-{last}")?;
            }
            separator = ",";
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn text_and_back(cpus in prop::collection::btree_set(0_u32..CpuSet::LIMIT, 0..40)) {
            let set: CpuSet = cpus.into_iter().collect();
            prop_assert_eq!(set.to_string().parse(), Ok(set));
        }

        #[test]
        fn any_text_is_answered(text in "[-0-9, x]{0,20}") {
            if let Ok(set) = text.parse::<CpuSet>() {
                prop_assert!(set.iter().all(|cpu| cpu < CpuSet::LIMIT));
            }
        }
    }

    #[test]
    fn as_the_kernel_writes_them() {
        let set: CpuSet = "0-2,5\n".parse().unwrap();
        assert_eq!(set.iter().collect::<Vec<_>>(), [0, 1, 2, 5]);
        assert_eq!(set.to_string(), "0-2,5");
        assert!("".parse::<CpuSet>().unwrap().is_empty());
        for wrong in ["3-1", "a", "1-", "4096", "0-4294967295"] {
            assert!(wrong.parse::<CpuSet>().is_err(), "{wrong:?}");
        }
    }
}
