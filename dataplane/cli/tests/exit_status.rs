//! The exit statuses that `pectl --help` promises, as a shell sees them.

use std::process::{Command, Output};

fn pectl(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_pectl")).args(arguments).output().expect("pectl starts")
}

#[test]
fn nobody_listening_is_3_and_names_the_socket() {
    let folder = tempfile::tempdir().expect("a folder");
    let socket = folder.path().join("nobody.sock");
    let socket = socket.to_str().expect("text");
    for command in [
        &["ports"][..],
        &["drops"],
        &["route", "get", "10.0.0.1", "--vrf", "red"],
        &["bridges", "--vni", "110"],
        &["macs"],
        &["mac", "get", "02:00:00:00:00:01", "--vni", "110"],
        &["flood"],
        &["suppression"],
        &["trace", "not", "arp", "--seconds", "1"],
    ] {
        let output = pectl(&[&["--socket", socket], command].concat());
        assert_eq!(output.status.code(), Some(3), "{command:?}");
        assert!(String::from_utf8_lossy(&output.stderr).contains(socket), "{command:?}");
    }
}

#[test]
fn wrong_usage_is_2() {
    for arguments in [
        &["route", "get", "not-an-address"][..],
        &["no-such-command"],
        &["drops", "--watch", "0"],
        &["macs", "--vni", "0"],
        &["bridges", "--vni", "16777216"],
        &["mac", "get", "02:00:00:00:00", "--vni", "110"],
        &["mac", "get", "02:00:00:00:00:01"],
        &["trace", "arp", "--count", "0"],
    ] {
        assert_eq!(pectl(arguments).status.code(), Some(2), "{arguments:?}");
    }
}

#[test]
fn completion_needs_no_dataplane() {
    for shell in ["bash", "zsh", "fish"] {
        let output = pectl(&["completion", shell]);
        assert!(output.status.success(), "{shell}");
        assert!(String::from_utf8_lossy(&output.stdout).contains("suppression"), "{shell}");
    }
}
