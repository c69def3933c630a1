use std::net::IpAddr;

use foldhash::{HashMap, HashSet};

use super::delta::Delta;
use super::kernel::RemoteMac;
use super::{Dirty, Resolver};
use crate::netlink::Mac;

impl Resolver {
    /// Where the kernel would send frames for a MAC, if that is to another VTEP.
    pub(super) fn remote_mac(&self, vni: u32, mac: Mac) -> Option<RemoteMac> {
        let domain = self.view.domains.get(&vni)?;
        let vxlan = domain.vxlan?;
        let behind = self.kernel.fdb.get(&(domain.bridge, mac)).filter(|entry| entry.port == vxlan)?;
        self.kernel.macs.get(&(vxlan, behind.mac)).copied()
    }

    /// What was sent of an L2VNI went with it, and another of its number begins with nothing.
    pub(super) fn forget_domains(&mut self) {
        let gone = |vni: u32| {
            let old = self.view.domains.get(&vni).map(|domain| domain.svi);
            old.is_some() && self.topology.l2vnis.get(&vni).map(|of| of.id) != old
        };
        self.sent_macs.retain(|&(vni, _), _| !gone(vni));
        self.sent_floods.retain(|&vni, _| !gone(vni));
    }

    pub(super) fn flush_floods(&mut self, dirty: &Dirty, delta: &mut Delta) {
        let all = dirty.all_macs.then(|| self.view.domains.keys().chain(self.sent_floods.keys()).copied());
        let some = dirty.floods.iter().filter_map(|&vxlan| self.view.l2vni(vxlan));
        let mut vnis: Vec<u32> = all.into_iter().flatten().chain(some).collect();
        vnis.sort_unstable();
        vnis.dedup();
        for vni in vnis {
            let vxlan = self.view.domains.get(&vni).and_then(|domain| domain.vxlan);
            let wanted = vxlan.map(|vxlan| self.kernel.floods_of(vxlan)).unwrap_or_default();
            let sent: &[IpAddr] = self.sent_floods.get(&vni).map_or(&[], Vec::as_slice);
            if sent == wanted {
                continue;
            }
            delta.flood_lists.push((vni, wanted.clone()));
            if wanted.is_empty() {
                self.sent_floods.remove(&vni);
            } else {
                self.sent_floods.insert(vni, wanted);
            }
        }
    }

    pub(super) fn flush_macs(&mut self, dirty: &Dirty, delta: &mut Delta) {
        if dirty.all_macs {
            self.flush_all_macs(delta);
            return;
        }
        let at = |&(ifindex, mac): &(u32, Mac)| Some((self.view.l2vni(ifindex)?, mac));
        let changed: HashSet<(u32, Mac)> = dirty.macs.iter().filter_map(at).collect();
        for at in changed {
            // What the dataplane has on a port is left alone for as long as its word is the last.
            let wanted = self.remote_mac(at.0, at.1).filter(|_| !self.local.holds_mac(at));
            let sent = match wanted {
                Some(remote) => self.sent_macs.insert(at, remote),
                None => self.sent_macs.remove(&at),
            };
            if sent != wanted {
                delta.macs.push((at.0, at.1, wanted));
            }
        }
    }

    fn flush_all_macs(&mut self, delta: &mut Delta) {
        let mut all: HashMap<(u32, Mac), RemoteMac> = HashMap::default();
        for (&vni, domain) in &self.view.domains {
            let Some(vxlan) = domain.vxlan else { continue };
            let remote = self.kernel.macs_of(vxlan).filter(|(mac, _)| {
                let entry = self.kernel.fdb.get(&(domain.bridge, *mac));
                entry.is_some_and(|entry| entry.port == vxlan) && !self.local.holds_mac((vni, *mac))
            });
            all.extend(remote.map(|(mac, remote)| ((vni, mac), remote)));
        }
        let gone = self.sent_macs.keys().filter(|at| !all.contains_key(at));
        delta.macs.extend(gone.map(|&(vni, mac)| (vni, mac, None)));
        let new = all.iter().filter(|(at, remote)| self.sent_macs.get(at) != Some(remote));
        delta.macs.extend(new.map(|(&(vni, mac), &remote)| (vni, mac, Some(remote))));
        self.sent_macs = all;
    }
}
