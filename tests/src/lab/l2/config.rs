//! An L2VNI as YAML.

use std::fmt::Write as _;

use super::{Attachment, L2Vni};

/// An L2VNI of a node of ours as the standing lab has it.
pub fn l2vni(pe: u8, l2vni: L2Vni) -> String {
    Object::new(l2vni).on(&l2vni.attachment(pe)).yaml()
}

/// The parts of an L2VNI that scenarios vary.
#[derive(Clone, Debug)]
pub struct Object {
    l2vni: L2Vni,
    gateways: Vec<String>,
    attachment: Attachment,
    extra: String,
}

impl Object {
    /// With the plan's gateways and without a host master.
    pub fn new(l2vni: L2Vni) -> Self {
        let gateways = match l2vni.vrf {
            Some(_) => vec![format!("{}/24", l2vni.gateway_v4()), format!("{}/64", l2vni.gateway_v6())],
            None => Vec::new(),
        };
        Self { l2vni, gateways, attachment: Attachment::Bare, extra: String::new() }
    }

    /// With this host master.
    pub fn on(mut self, attachment: &Attachment) -> Self {
        self.attachment = attachment.clone();
        self
    }

    /// With these gateways, CIDR text.
    pub fn gateways(mut self, gateways: &[String]) -> Self {
        self.gateways = gateways.to_vec();
        self
    }

    /// With another field of one line, e.g. `agingSeconds: 8`.
    pub fn with(mut self, field: &str) -> Self {
        let _ = writeln!(self.extra, "  {field}");
        self
    }

    /// The file's text.
    pub fn yaml(&self) -> String {
        let mut text = format!("l2vnis:\n- name: {}\n  vni: {}\n", self.l2vni.name, self.l2vni.vni);
        if let Some(vrf) = self.l2vni.vrf {
            let _ = writeln!(text, "  routingDomain: {{type: L3VNI, l3vni: {{name: {}}}}}", vrf.name);
        }
        if !self.gateways.is_empty() {
            let _ = writeln!(text, "  gatewayIPs: {:?}", self.gateways);
        }
        match &self.attachment {
            Attachment::Managed(_) => {
                text.push_str("  hostMaster: {type: LinuxBridge, linuxBridge: {lifecycle: Managed}}\n");
            }
            Attachment::External(name) => {
                let _ = writeln!(
                    text,
                    "  hostMaster: {{type: LinuxBridge, linuxBridge: {{lifecycle: External, name: {name}}}}}"
                );
            }
            Attachment::Ovs(_) => {
                text.push_str("  hostMaster: {type: OVSBridge, ovsBridge: {lifecycle: Managed}}\n");
            }
            Attachment::Bare => {}
        }
        text + &self.extra
    }
}

#[cfg(test)]
mod tests {
    use super::super::{FRONT, ISLAND};
    use super::*;

    #[test]
    fn an_object_is_of_the_shape_that_a_mixed_cluster_has() {
        assert_eq!(
            l2vni(1, FRONT),
            "l2vnis:\n- name: front\n  vni: 110\n  routingDomain: {type: L3VNI, l3vni: {name: red}}\n  \
             gatewayIPs: [\"192.171.24.1/24\", \"fd00:10:245:1::1/64\"]\n  \
             hostMaster: {type: LinuxBridge, linuxBridge: {lifecycle: Managed}}\n"
        );
        assert_eq!(
            Object::new(ISLAND).with("agingSeconds: 8").yaml(),
            "l2vnis:\n- name: island\n  vni: 130\n  agingSeconds: 8\n"
        );
    }
}
