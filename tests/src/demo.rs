//! The demo: starts the lab and shows it doing its main job.

use std::io::IsTerminal as _;
use std::path::Path;
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use crate::cli::Request;
use crate::lab::Lab;
use crate::lab::plan::{
    BLUE, Host, KERNEL_PE, RED, SPINES, VRFS, Vrf, hosts, link_spine, pe_netns, spine_netns,
};
use crate::traffic::{ping, who};
use crate::wait::LONG;
use crate::{Error, Result, remote};

/// Runs it; the exit code is 0 only if all of it worked.
///
/// # Errors
/// With the first thing that did not work.
pub fn run(dir: &Path, request: &Request, keep: bool, shell: bool) -> Result<ExitCode> {
    remote::serve(dir)?;
    let start = Instant::now();
    let shown =
        Lab::start(dir, request, |step| println!("[{:>5.1} s] start  {step}", start.elapsed().as_secs_f32()))
            .and_then(|mut lab| {
                let result = show(&mut lab, start).and_then(|()| lab.alive());
                Ok((lab, result?))
            });
    let code = match &shown {
        Ok(_) => {
            println!("\nAll of it worked, in {} s.", start.elapsed().as_secs());
            0
        }
        Err(error) => {
            println!("\nFAILED: {error}\nLogs: {}", dir.join("logs").display());
            1
        }
    };
    if keep {
        stay(dir, request, shell)?;
    }
    Ok(ExitCode::from(code))
}

fn show(lab: &mut Lab, start: Instant) -> Result<()> {
    let say = |text: &str| println!("[{:>5.1} s] {text}", start.elapsed().as_secs_f32());
    for pe in [1, 2] {
        lab.until(2 * LONG, format!("n{pe}'s sessions with both spines"), |lab| established(lab, pe))?;
        let names = SPINES.map(spine_netns).join(" and ");
        say(&format!("bgp    n{pe}: ipv4 unicast and l2vpn evpn established with {names}"));
    }
    for pe in [1, 2] {
        let dataplane = lab.node(pe).client()?;
        for vrf in VRFS {
            let wanted = remote_prefixes(pe);
            let routes = lab.until(
                2 * LONG,
                format!("n{pe}'s dataplane to have the routes of VRF {}", vrf.name),
                |_| {
                    let routes = dataplane.routes(vrf.name)?;
                    match wanted.iter().find(|prefix| !routes.contains_key(*prefix)) {
                        None => Ok(routes),
                        Some(missing) => {
                            Err(Error::unexpected(format!("{missing} is missing among {}", routes.len())))
                        }
                    }
                },
            )?;
            say(&format!(
                "routes n{pe}: VRF {}: {} prefixes in the dataplane, among them",
                vrf.name,
                routes.len()
            ));
            for prefix in wanted {
                let paths: Vec<String> = routes[&prefix].paths.iter().map(describe).collect();
                println!("                 {prefix:<18} {}", paths.join(", "));
            }
        }
    }
    for vrf in VRFS {
        let what = format!("hosts of VRF {} to reach each other", vrf.name);
        lab.until(2 * LONG, what, |_| ping::all_reach(vrf))?;
        say(&format!("ping   VRF {}: round trips in milliseconds, IPv4 / IPv6", vrf.name));
        print_matrix(vrf)?;
    }
    let mut silent = 0;
    for (from, to) in [(RED, BLUE), (BLUE, RED)] {
        for pe in [1, 2, KERNEL_PE] {
            let target = Host { pe: if pe == 1 { 2 } else { 1 }, vrf: to };
            for address in [target.own_v4().into(), target.own_v6().into()] {
                let host = Host { pe, vrf: from }.name();
                if ping(&host, address, None).is_ok() {
                    return Err(Error::unexpected(format!("{host} reaches {address} of VRF {}", to.name)));
                }
                silent += 1;
            }
        }
    }
    say(&format!("ping   between VRFs: {silent} tries, no reply, as it must be"));
    for vrf in VRFS {
        let [n1, n2, _] = hosts(vrf);
        let name = who::ask(&n1.name(), n2.v4().into(), Some(n1.v4().into()))?;
        say(&format!("who    {} asks {}, {name} answers", n1.name(), n2.v4()));
    }
    for args in [&["ports"][..], &["vrfs"], &["vnis"], &["routes", "--vrf", "red"], &["drops"]] {
        println!("\n# pectl {}        (on n1)", args.join(" "));
        print!("{}", lab.node(1).pectl(args)?);
    }
    Ok(())
}

/// Both address families of both spines.
fn established(lab: &Lab, pe: u8) -> Result<()> {
    let summary = lab.node(pe).frr.json("show bgp summary json")?;
    for family in ["ipv4Unicast", "l2VpnEvpn"] {
        for spine in SPINES {
            let peer = link_spine(pe, spine).to_string();
            let state = summary[family]["peers"][&peer]["state"].as_str().unwrap_or("absent");
            if state != "Established" {
                return Err(Error::unexpected(format!("{} {family} is {state}", spine_netns(spine))));
            }
        }
    }
    Ok(())
}

/// What a node has to learn from the other PEs, in each VRF.
fn remote_prefixes(pe: u8) -> Vec<String> {
    let others = [1, 2, KERNEL_PE].into_iter().filter(|other| *other != pe);
    others.flat_map(|other| [format!("10.{other}.0.0/24"), format!("fd00:10:{other}::/64")]).collect()
}

fn describe(path: &dataplane_api::v1::PathEntry) -> String {
    match path.kind.as_str() {
        "vxlan" => format!("VNI {} to VTEP {} (router MAC {})", path.vni, path.vtep, path.router_mac),
        "adjacent" => format!("via {} on {}", path.gateway, path.port),
        kind => format!("{kind} {}", path.port),
    }
}

fn print_matrix(vrf: Vrf) -> Result<()> {
    let all = hosts(vrf);
    print!("                 {:<8}", "from\\to");
    for to in all {
        print!("{:>16}", to.name());
    }
    println!();
    for from in all {
        print!("                 {:<8}", from.name());
        for to in all {
            if from == to {
                print!("{:>16}", "-");
                continue;
            }
            let mut cell = Vec::new();
            for address in to.addresses() {
                let source = from.addresses().into_iter().find(|own| own.is_ipv4() == address.is_ipv4());
                cell.push(format!("{:.1}", millis(ping(&from.name(), address, source)?)));
            }
            print!("{:>16}", cell.join(" / "));
        }
        println!();
    }
    Ok(())
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// Says how to look around, and waits: for the end of a shell where there is a terminal, else for ever.
fn stay(dir: &Path, request: &Request, shell: bool) -> Result<()> {
    let socket = |pe| format!("/run/openpe/{}/dataplane.sock", pe_netns(pe));
    let vtysh = request
        .frr
        .root()
        .map_or_else(|| "vtysh".to_owned(), |root| format!("chroot {} vtysh", root.display()));
    let binaries = request.binaries.display();
    let prefix = if shell { "" } else { "tests/scripts/lab " };
    println!("\nThe lab keeps running. Look around by:");
    println!(
        "  {prefix}ip netns exec n1-red ping -c 3 10.2.0.1          # a host (n1-red n1-blue n2-red n2-blue k-red k-blue)"
    );
    println!(
        "  {prefix}{vtysh} -N n1-pe -c 'show bgp l2vpn evpn summary'  # FRR of a node (n1-pe n2-pe), kpe, spine1, spine2"
    );
    println!("  {prefix}{binaries}/pectl --socket {} routes --vrf red", socket(1));
    println!("  {prefix}{binaries}/pectl --socket {} route get 10.2.0.1 --vrf red", socket(2));
    println!("  {prefix}ip -n n1-pe link                               # shadow devices of a node");
    println!("Logs: {}", dir.join("logs").display());
    if shell && std::io::stdin().is_terminal() {
        println!("This is a shell in the lab; leaving it ends the lab.\n");
        let status = Command::new("bash")
            .args(["--norc", "-i"])
            .env("PS1", "lab# ")
            .status()
            .map_err(Error::system("cannot start a shell"))?;
        println!("the shell ended ({status}); ending the lab");
        return Ok(());
    }
    println!("It ends with: tests/scripts/lab --end");
    let end = dir.join("end");
    while !end.exists() {
        std::thread::sleep(Duration::from_millis(500));
    }
    Ok(())
}
