use std::fmt;
use std::str::FromStr;

/// The release of FRR that runs on the node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FrrVersion {
    /// Major and minor number; none when FRR does not say them in a way that is known.
    release: Option<(u32, u32)>,
    text: String,
}

/// The first release whose EVPN carries IPv6 VTEPs in full.
///
/// 10.6 was the first with IPv6 next hops in EVPN routes and IPv6 VXLAN devices (FRR pull request 19721). But there type-3
/// routes still carry a tunnel endpoint of 4 bytes, and one of 16 (RFC 6514 section 5) counts as malformed: the route of a
/// VTEP that is right is withdrawn. 10.7 does both (pull request 21507).
const IPV6_VTEPS: (u32, u32) = (10, 7);

impl FrrVersion {
    /// The release this software is tested with that can do most.
    #[must_use]
    pub fn newest() -> Self {
        Self { release: Some(IPV6_VTEPS), text: "10.7".to_owned() }
    }

    /// From what `vtysh -c 'show version'` prints: `FRRouting 10.7.1 (worker-1) on Linux(6.1.0).`, and more lines.
    #[must_use]
    pub fn from_show_version(output: &str) -> Option<Self> {
        let mut words = output.lines().find_map(|line| line.strip_prefix("FRRouting "))?.split_whitespace();
        Some(Self::of(words.next()?))
    }

    /// Says why it carries no IPv6 VTEPs.
    #[must_use]
    pub fn ipv6_vtep_problem(&self) -> Option<String> {
        let (major, minor) = IPV6_VTEPS;
        self.release.is_none_or(|release| release < IPV6_VTEPS).then(|| {
            format!(
                "an IPv6 VTEP needs FRR {major}.{minor} or later, and this node runs FRR {self}: upgrade FRR, or use \
                 an IPv4 CIDR in the underlay's tunnelEndpoint.cidrs"
            )
        })
    }

    fn of(text: &str) -> Self {
        // E.g. 8.4.4, 10.7.1, 10.7-dev, 10.8-dev-g0123abc.
        let mut parts = text.split(['.', '-', '~', '+']).map(str::parse);
        let release = match (parts.next(), parts.next()) {
            (Some(Ok(major)), Some(Ok(minor))) => Some((major, minor)),
            _ => None,
        };
        Self { release, text: text.to_owned() }
    }
}

impl fmt::Display for FrrVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl FromStr for FrrVersion {
    type Err = &'static str;

    /// A version as people write it: `10.7` or `8.4.4`.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let version = Self::of(text);
        if version.release.is_none() {
            return Err("expected a version of FRR such as 8.4 or 10.7.1");
        }
        Ok(version)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn shown(version: &str) -> FrrVersion {
        let output = format!("FRRouting {version} (worker-1) on Linux(6.1.0-18-amd64).\nCopyright ...\n");
        FrrVersion::from_show_version(&output).unwrap()
    }

    #[test]
    fn ipv6_vteps_need_10_7() {
        for old in ["8.4.4", "9.1", "10.3.1", "10.6.1", "7.5.1", "unknown", "v10"] {
            let problem = shown(old).ipv6_vtep_problem().unwrap();
            assert!(
                problem.contains("needs FRR 10.7") && problem.contains(&format!("FRR {old}:")),
                "{problem}"
            );
        }
        for new in ["10.7.0", "10.7.1", "10.7-dev", "10.10.2", "10.8-dev-g0123abc", "11.0"] {
            assert_eq!(shown(new).ipv6_vtep_problem(), None, "{new}");
        }
        assert_eq!(FrrVersion::newest().ipv6_vtep_problem(), None);
    }

    #[test]
    fn what_is_no_version_is_refused() {
        assert_eq!("10.7".parse::<FrrVersion>().unwrap().to_string(), "10.7");
        for bad in ["", "10", "new", "10.x", "-1.2"] {
            bad.parse::<FrrVersion>().unwrap_err();
        }
        assert_eq!(FrrVersion::from_show_version("Exiting: failed to connect to any daemons.\n"), None);
        assert_eq!(FrrVersion::from_show_version("FRRouting \n"), None);
    }

    proptest! {
        #[test]
        fn any_output_is_read(output in "(FRRouting |[0-9]{1,12}|[.-]|\\PC|\n){0,20}") {
            let _ = FrrVersion::from_show_version(&output);
        }
    }
}
