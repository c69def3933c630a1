use std::net::IpAddr;

use foldhash::{HashMap, HashSet};

use super::Key;
use super::delta::{Group, GroupId, Path, PathKind};
use crate::topology::PortId;

/// A [`Key`], interned.
pub(super) type KeyId = u32;

#[derive(Debug)]
struct KeyState {
    key: Key,
    /// Routes that name it.
    references: u32,
    group: Option<GroupId>,
}

#[derive(Debug)]
struct GroupState {
    paths: Vec<Path>,
    keys: HashSet<KeyId>,
    /// Routes sent that use it.
    routes: u32,
}

/// Keys, and the session's groups they are carried by.
///
/// Keys of equal content share a group from the moment they need one. When one of them changes and the others do not,
/// it gets a group of its own, and its routes must be stated anew; when all change alike, the group changes in place.
#[derive(Debug, Default)]
pub(super) struct Groups {
    ids: HashMap<Key, KeyId>,
    keys: HashMap<KeyId, KeyState>,
    last_key: KeyId,
    groups: HashMap<GroupId, GroupState>,
    by_content: HashMap<Vec<Path>, GroupId>,
    last_group: GroupId,
    /// Keys and groups that may have lost their last user.
    idle_keys: HashSet<KeyId>,
    idle_groups: HashSet<GroupId>,
}

impl Groups {
    /// Interns a key and counts one more reference to it.
    pub(super) fn take(&mut self, key: Key) -> KeyId {
        let id = self.intern(key);
        if let Some(state) = self.keys.get_mut(&id) {
            state.references += 1;
        }
        id
    }

    /// Interns a key without a reference: it lives until the next [`Groups::collect`] that finds it without a route.
    pub(super) fn intern(&mut self, key: Key) -> KeyId {
        if let Some(&id) = self.ids.get(&key) {
            return id;
        }
        while self.keys.contains_key(&self.last_key) {
            self.last_key = self.last_key.wrapping_add(1);
        }
        let id = self.last_key;
        self.ids.insert(key.clone(), id);
        self.keys.insert(id, KeyState { key, references: 0, group: None });
        self.idle_keys.insert(id);
        id
    }

    pub(super) fn release(&mut self, id: KeyId) {
        if let Some(state) = self.keys.get_mut(&id) {
            state.references = state.references.saturating_sub(1);
            if state.references == 0 {
                self.idle_keys.insert(id);
            }
        }
    }

    pub(super) fn id(&self, key: &Key) -> Option<KeyId> {
        self.ids.get(key).copied()
    }

    /// All gateways in use.
    pub(super) fn gateways(&self) -> impl Iterator<Item = (PortId, IpAddr)> + '_ {
        self.groups.values().flat_map(|group| &group.paths).filter_map(|path| match path.kind {
            PathKind::Adjacent { port, gateway } => Some((port, gateway)),
            _ => None,
        })
    }

    /// The group of a key; a new one is announced in `out` unless there is one of the same content.
    pub(super) fn group_of(
        &mut self,
        id: KeyId,
        resolve: impl FnOnce(&Key) -> Vec<Path>,
        out: &mut Vec<Group>,
    ) -> Option<GroupId> {
        let state = self.keys.get(&id)?;
        if let Some(group) = state.group {
            return Some(group);
        }
        let paths = resolve(&state.key);
        // What drops because it is unresolved will part ways as soon as it is not: sharing would only cost.
        let shared = if state.key != Key::Discard && paths.iter().all(|path| path.kind == PathKind::Drop) {
            None
        } else {
            self.by_content.get(&paths).copied()
        };
        let group = shared.unwrap_or_else(|| self.announce(paths, out));
        if let Some(state) = self.keys.get_mut(&id) {
            state.group = Some(group);
        }
        if let Some(state) = self.groups.get_mut(&group) {
            state.keys.insert(id);
        }
        Some(group)
    }

    /// Resolves anew the keys of the groups that `affected` keys use; `None` means all. Groups that change go to `out`; the keys returned got another
    /// group, so that their routes must be stated again.
    pub(super) fn refresh(
        &mut self,
        affected: Option<&[KeyId]>,
        resolve: impl Fn(&Key) -> Vec<Path>,
        out: &mut Vec<Group>,
    ) -> HashSet<KeyId> {
        let groups: HashSet<GroupId> = match affected {
            None => self.groups.keys().copied().collect(),
            Some(keys) => keys.iter().filter_map(|key| self.keys.get(key)?.group).collect(),
        };
        let mut moved = HashSet::default();
        for id in groups {
            let Some(group) = self.groups.get(&id) else { continue };
            let mut contents: HashMap<Vec<Path>, Vec<KeyId>> = HashMap::default();
            for &key in &group.keys {
                if let Some(state) = self.keys.get(&key) {
                    contents.entry(resolve(&state.key)).or_default().push(key);
                }
            }
            if contents.remove(&group.paths).is_none()
                && let Some(paths) =
                    contents.iter().max_by_key(|(_, keys)| keys.len()).map(|(paths, _)| paths.clone())
            {
                // Nobody keeps the old content: most follow the group to the new one.
                contents.remove(&paths);
                self.change(id, paths, out);
            }
            for key in contents.into_values().flatten() {
                if let Some(group) = self.groups.get_mut(&id) {
                    group.keys.remove(&key);
                }
                if let Some(state) = self.keys.get_mut(&key) {
                    state.group = None;
                }
                moved.insert(key);
            }
        }
        moved
    }

    fn change(&mut self, id: GroupId, paths: Vec<Path>, out: &mut Vec<Group>) {
        if let Some(group) = self.groups.get_mut(&id) {
            if self.by_content.get(&group.paths) == Some(&id) {
                self.by_content.remove(&group.paths);
            }
            group.paths.clone_from(&paths);
            self.by_content.entry(paths.clone()).or_insert(id);
            out.push(Group { id, paths });
        }
    }

    fn announce(&mut self, paths: Vec<Path>, out: &mut Vec<Group>) -> GroupId {
        loop {
            self.last_group = self.last_group.checked_add(1).unwrap_or(1);
            if !self.groups.contains_key(&self.last_group) {
                break;
            }
        }
        let id = self.last_group;
        self.by_content.entry(paths.clone()).or_insert(id);
        self.groups.insert(id, GroupState { paths: paths.clone(), keys: HashSet::default(), routes: 0 });
        self.idle_groups.insert(id);
        out.push(Group { id, paths });
        id
    }

    /// Counts a route sent.
    pub(super) fn route_added(&mut self, id: GroupId) {
        if let Some(group) = self.groups.get_mut(&id) {
            group.routes += 1;
        }
    }

    /// Counts a route withdrawn, or moved away.
    pub(super) fn route_removed(&mut self, id: GroupId) {
        if let Some(group) = self.groups.get_mut(&id) {
            group.routes = group.routes.saturating_sub(1);
            if group.routes == 0 {
                self.idle_groups.insert(id);
            }
        }
    }

    /// Removes keys that no route names and groups that no route uses; the groups are returned.
    pub(super) fn collect(&mut self) -> Vec<GroupId> {
        let mut deleted = Vec::new();
        for id in std::mem::take(&mut self.idle_groups) {
            let Some(group) = self.groups.get(&id) else { continue };
            if group.routes > 0 {
                continue;
            }
            for key in &group.keys {
                if let Some(state) = self.keys.get_mut(key) {
                    state.group = None;
                    self.idle_keys.insert(*key);
                }
            }
            if self.by_content.get(&group.paths) == Some(&id) {
                self.by_content.remove(&group.paths);
            }
            self.groups.remove(&id);
            deleted.push(id);
        }
        for id in std::mem::take(&mut self.idle_keys) {
            let Some(state) = self.keys.get(&id) else { continue };
            if state.references > 0 {
                continue;
            }
            if let Some(group) = state.group.and_then(|group| self.groups.get_mut(&group)) {
                // A connected or local prefix has no reference but its group's routes.
                if matches!(state.key, Key::Connected(_) | Key::Local) {
                    continue;
                }
                group.keys.remove(&id);
            }
            self.ids.remove(&state.key);
            self.keys.remove(&id);
        }
        deleted
    }

    /// The session's groups mean nothing any more.
    pub(super) fn forget_session(&mut self) {
        self.groups.clear();
        self.by_content.clear();
        self.idle_groups.clear();
        self.last_group = 0;
        for state in self.keys.values_mut() {
            state.group = None;
        }
        self.idle_keys.extend(self.keys.iter().filter(|(_, state)| state.references == 0).map(|(id, _)| *id));
    }
}
