//! What must leave, worked out from what entered without looking at the engine: the fields of a flow are known, and the
//! tables are lists.

use std::collections::HashMap;

use forwarding::fib::{Key, Prefix};

use crate::traffic;

/// A frame that must leave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Expected {
    /// By which of the scenario's outputs.
    pub(crate) output: usize,
    frame: Vec<u8>,
    tunnel: Option<(u8, u32)>,
}

impl Expected {
    /// A frame as it is.
    pub(super) const fn plain(output: usize, frame: Vec<u8>) -> Self {
        Self { output, frame, tunnel: None }
    }

    /// A frame in the tunnel to a remote VTEP, with a VNI.
    pub(super) const fn tunnelled(output: usize, vtep: u8, vni: u32, frame: Vec<u8>) -> Self {
        Self { output, frame, tunnel: Some((vtep, vni)) }
    }

    /// Whether `sent` is that frame, to the last byte. Only a tunnel's UDP source port may be any of the dynamic ones.
    pub(crate) fn is(&self, sent: &[u8]) -> bool {
        match self.tunnel {
            None => sent == self.frame,
            Some((vtep, vni)) => traffic::is_tunnelled(sent, vtep, vni, &self.frame),
        }
    }
}

/// A routing table as one would write it down: prefixes, each with its number in the list.
pub(super) struct Routes<K>(HashMap<Prefix<K>, usize>);

impl<K: Key> Routes<K> {
    pub(super) fn new(prefixes: impl IntoIterator<Item = Prefix<K>>) -> Self {
        Self(prefixes.into_iter().zip(0..).collect())
    }

    /// The number of the longest prefix that holds `address`: all lengths are tried.
    pub(super) fn longest_match(&self, address: K) -> Option<usize> {
        let bits = u8::try_from(K::BITS).unwrap_or(u8::MAX);
        (0..=bits).rev().find_map(|length| self.0.get(&Prefix::containing(address, length)).copied())
    }
}
