//! Routes as their source states them, and as they were sent: one entry each, so that a change of one is looked for once
//! when it comes and once when it goes out.

use foldhash::HashMap;
use ipnet::IpNet;

use super::Epoch;
use super::delta::GroupId;
use super::groups::KeyId;
use crate::topology::VrfId;

/// A route's table and prefix.
pub(super) type At = (u32, IpNet);

/// A route.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Route {
    /// What zebra said of it last, and when.
    pub(super) stated: Option<(KeyId, Epoch)>,
    /// Where the dataplane has it in this session.
    pub(super) sent: Option<(VrfId, GroupId)>,
    /// It is on the list of those that may have changed.
    is_dirty: bool,
}

impl Route {
    /// Puts it on the list of those that may have changed, once.
    fn mark(&mut self, at: At, dirty: &mut Vec<At>) {
        if !std::mem::replace(&mut self.is_dirty, true) {
            dirty.push(at);
        }
    }
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Routes {
    all: HashMap<At, Route>,
    stated: usize,
    dirty: Vec<At>,
}

impl Routes {
    /// How many are stated.
    pub(super) const fn stated(&self) -> usize {
        self.stated
    }

    /// How many may have changed.
    pub(super) fn pending(&self) -> usize {
        self.dirty.len()
    }

    /// What zebra said of a route.
    pub(super) fn get(&self, at: &At) -> Option<(KeyId, Epoch)> {
        self.all.get(at)?.stated
    }

    /// All that are stated.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&At, (KeyId, Epoch))> {
        self.all.iter().filter_map(|(at, route)| Some((at, route.stated?)))
    }

    /// States a route; what was said of it before. It may have changed, unless its key is the same.
    pub(super) fn state(&mut self, at: At, key: KeyId, epoch: Epoch) -> Option<KeyId> {
        let route = self.all.entry(at).or_default();
        let old = route.stated.replace((key, epoch)).map(|(old, _)| old);
        self.stated += usize::from(old.is_none());
        if old != Some(key) {
            route.mark(at, &mut self.dirty);
        }
        old
    }

    /// A route is not stated any more; what was said of it.
    pub(super) fn forget(&mut self, at: At) -> Option<KeyId> {
        let route = self.all.get_mut(&at)?;
        let (old, _) = route.stated.take()?;
        self.stated -= 1;
        route.mark(at, &mut self.dirty);
        Some(old)
    }

    /// A route may have changed, for another reason than that it was stated.
    pub(super) fn mark(&mut self, at: At) {
        self.all.entry(at).or_default().mark(at, &mut self.dirty);
    }

    /// Takes the list of those that may have changed.
    pub(super) fn take_dirty(&mut self) -> Vec<At> {
        std::mem::take(&mut self.dirty)
    }

    /// Everything that is stated or sent.
    pub(super) fn everything(&self) -> Vec<At> {
        self.all.keys().copied().collect()
    }

    /// Works on a route, which is then as it should be; it goes when it is neither stated nor sent.
    pub(super) fn settle<T>(&mut self, at: At, work: impl FnOnce(&mut Route) -> T) -> T {
        let route = self.all.entry(at).or_default();
        route.is_dirty = false;
        let result = work(route);
        if route.stated.is_none() && route.sent.is_none() {
            self.all.remove(&at);
        }
        result
    }

    /// Nothing was sent yet.
    pub(super) fn forget_session(&mut self) {
        self.dirty = Vec::new();
        self.all.retain(|_, route| {
            (route.sent, route.is_dirty) = (None, false);
            route.stated.is_some()
        });
    }
}
