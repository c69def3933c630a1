use dataplane_api::v1::{ListRoutesRequest, PathEntry, RouteEntry};
use serde::Serialize;
use tokio_stream::StreamExt;

use super::{Session, vrf_name};
use crate::{cli::Format, error::Error, output, output::Row};

#[derive(Debug, Serialize)]
struct Route {
    vrf: String,
    prefix: String,
    paths: Vec<Path>,
}

#[derive(Debug, Serialize)]
struct Path {
    kind: String,
    weight: u32,
    port: String,
    gateway: String,
    vni: u32,
    vtep: String,
    router_mac: String,
    usable: bool,
    problem: String,
}

impl From<RouteEntry> for Route {
    fn from(entry: RouteEntry) -> Self {
        let paths = entry.paths.into_iter().map(Path::from).collect();
        Self { vrf: vrf_name(entry.vrf), prefix: entry.prefix, paths }
    }
}

impl From<PathEntry> for Path {
    fn from(entry: PathEntry) -> Self {
        Self {
            kind: entry.kind,
            weight: entry.weight,
            port: entry.port,
            gateway: entry.gateway,
            vni: entry.vni,
            vtep: entry.vtep,
            router_mac: entry.router_mac,
            usable: entry.usable,
            problem: entry.problem,
        }
    }
}

impl Path {
    fn words(&self) -> String {
        let target = match self.kind.as_str() {
            "adjacent" => format!("via {} on {}", self.gateway, self.port),
            "vxlan" => format!("vxlan VNI {} to {} ({})", self.vni, self.vtep, self.router_mac),
            "connected" => format!("connected on {}", self.port),
            other => other.to_owned(),
        };
        let weight = if self.weight > 1 { format!(" weight {}", self.weight) } else { String::new() };
        let problem = if self.usable { String::new() } else { format!(" [{}]", self.problem) };
        format!("{target}{weight}{problem}")
    }
}

impl Row for Route {
    const HEADER: &'static [&'static str] = &["VRF", "PREFIX", "PATHS"];

    fn cells(&self) -> Vec<String> {
        let paths: Vec<String> = self.paths.iter().map(Path::words).collect();
        vec![self.vrf.clone(), self.prefix.clone(), paths.join("\n")]
    }
}

pub(super) async fn run(session: &Session, vrf: Option<String>) -> Result<(), Error> {
    if let Some(name) = &vrf {
        session.known_vrf(name).await?;
    }
    let request = ListRoutesRequest { vrf: vrf.unwrap_or_default() };
    let stream = session.inspect().list_routes(request).await?.into_inner();
    let routes: Vec<Route> = stream.map(|entry| entry.map(Route::from)).collect::<Result<_, _>>().await?;
    match session.format {
        Format::Json => output::print_json(&routes),
        Format::Table => output::print_text(&output::table(&routes)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_read_as_sentences() {
        let vxlan = Path::from(PathEntry {
            kind: "vxlan".into(),
            weight: 1,
            vni: 100,
            vtep: "100.65.0.2".into(),
            router_mac: "02:00:00:00:00:02".into(),
            usable: true,
            ..PathEntry::default()
        });
        assert_eq!(vxlan.words(), "vxlan VNI 100 to 100.65.0.2 (02:00:00:00:00:02)");
        let adjacent = Path::from(PathEntry {
            kind: "adjacent".into(),
            weight: 3,
            port: "toswitch1".into(),
            gateway: "192.168.11.2".into(),
            usable: false,
            problem: "unresolved-neighbor".into(),
            ..PathEntry::default()
        });
        assert_eq!(adjacent.words(), "via 192.168.11.2 on toswitch1 weight 3 [unresolved-neighbor]");
    }
}
