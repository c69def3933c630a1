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
    for command in [&["ports"][..], &["drops"], &["route", "get", "10.0.0.1", "--vrf", "red"]] {
        let output = pectl(&[&["--socket", socket], command].concat());
        assert_eq!(output.status.code(), Some(3), "{command:?}");
        assert!(String::from_utf8_lossy(&output.stderr).contains(socket), "{command:?}");
    }
}

#[test]
fn wrong_usage_is_2() {
    for arguments in
        [&["route", "get", "not-an-address"][..], &["no-such-command"], &["drops", "--watch", "0"]]
    {
        assert_eq!(pectl(arguments).status.code(), Some(2), "{arguments:?}");
    }
}

#[test]
fn completion_needs_no_dataplane() {
    for shell in ["bash", "zsh", "fish"] {
        let output = pectl(&["completion", shell]);
        assert!(output.status.success(), "{shell}");
        assert!(String::from_utf8_lossy(&output.stdout).contains("neighbors"), "{shell}");
    }
}
