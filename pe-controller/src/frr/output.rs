use std::fmt;

/// What FRR says against one line of a configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Complaint {
    /// The line's number in the file that was given to vtysh. It counts for `vtysh -C` only: frr-reload.py makes files
    /// of its own.
    pub line: usize,
    /// The command, without its indentation, passwords removed.
    pub command: String,
    /// What is wrong with it.
    pub message: String,
}

impl fmt::Display for Complaint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\": {}", self.command, self.message)
    }
}

/// Finds the complaints in what vtysh or frr-reload.py printed. Each is there once, however often it was said.
///
/// vtysh says `line N: % Unknown command[C]: TEXT`, or a daemon's words followed by
/// `line N: Failure to communicate[C] to DAEMON, line: TEXT`. frr-reload.py says `"CONTEXT -- no TEXT" we failed to remove
/// this command` before a daemon's words.
#[must_use]
pub fn complaints(output: &str) -> Vec<Complaint> {
    let mut found: Vec<Complaint> = Vec::new();
    let mut words = String::new();
    for line in output.lines() {
        let line = line.trim();
        if let Some(complaint) = numbered(line, &words).or_else(|| removal(line)) {
            let known =
                |other: &Complaint| other.command == complaint.command && other.message == complaint.message;
            if !found.iter().any(known) {
                found.push(complaint);
            }
            words.clear();
        } else if !line.is_empty() && !is_noise(line) {
            words = line.trim_start_matches("% ").to_owned();
        }
    }
    found
}

fn numbered(line: &str, words: &str) -> Option<Complaint> {
    let (number, rest) = line.strip_prefix("line ")?.split_once(": ")?;
    let line = number.parse().ok()?;
    if let Some(rest) = rest.strip_prefix("% ") {
        let (message, command) = rest.split_once(": ")?;
        let message = message.split('[').next().unwrap_or(message).to_lowercase();
        return Some(Complaint { line, command: redact(command.trim()), message });
    }
    let (failure, command) = rest.strip_prefix("Failure to communicate")?.split_once(", line: ")?;
    let daemon = failure.rsplit(' ').next().unwrap_or("a daemon");
    let message = if words.is_empty() {
        format!("{daemon} refuses it")
    } else {
        format!("{daemon}: {}", redact(words))
    };
    Some(Complaint { line, command: redact(command.trim()), message })
}

fn removal(line: &str) -> Option<Complaint> {
    let (command, _) = line.strip_suffix("we failed to remove this command")?.trim().rsplit_once('"')?;
    let command = command.rsplit_once('"').map_or(command, |(_, command)| command);
    Some(Complaint { line: 0, command: redact(command.trim()), message: "FRR cannot remove it".to_owned() })
}

/// What is said with every call, right or wrong.
fn is_noise(line: &str) -> bool {
    line.contains("Can't open configuration file")
        || line.contains("Graceful restart configuration changed")
        || line.starts_with("[")
        || line.starts_with("'")
}

/// Replaces what follows the word `password` on each line: it is a secret.
#[must_use]
pub fn redact(text: &str) -> String {
    let mut lines = Vec::new();
    for line in text.lines() {
        match line.find("password ") {
            Some(at) => lines.push(format!("{}password <hidden>", &line[..at])),
            None => lines.push(line.to_owned()),
        }
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn said(output: &str) -> Vec<(usize, String)> {
        complaints(output).into_iter().map(|complaint| (complaint.line, complaint.to_string())).collect()
    }

    #[test]
    fn an_unknown_command() {
        let output = "% Can't open configuration file /etc/frr/x/vtysh.conf due to 'No such file or directory'.\n\
                      line 102: % Unknown command[25]:  neighbor 1.2.3.4 remote-asx 5\n";
        assert_eq!(said(output), [(102, "\"neighbor 1.2.3.4 remote-asx 5\": unknown command".to_owned())]);
    }

    #[test]
    fn a_daemon_refuses() {
        let output = "% Specify remote-as or peer-group commands first\n\
                      line 2: Failure to communicate[13] to bgpd, line:  neighbor 9.9.9.9 timers 3 9\n\n\
                      % Specify remote-as or peer-group commands first\n\
                      line 5: Failure to communicate[13] to bgpd, line:  neighbor 9.9.9.9 timers 3 9\n\n";
        let text = "\"neighbor 9.9.9.9 timers 3 9\": bgpd: Specify remote-as or peer-group commands first";
        assert_eq!(said(output), [(2, text.to_owned())]);
    }

    #[test]
    fn an_instance_of_another_asn() {
        let output = "BGP is already running; AS is 64514\n\
                      line 1: Failure to communicate[13] to bgpd, line: router bgp 64999\n\n\
                      line 4: % Unknown command[4]:  neighbor 1.2.3.4 remote-as 5\n";
        assert_eq!(
            said(output),
            [
                (1, "\"router bgp 64999\": bgpd: BGP is already running; AS is 64514".to_owned()),
                (4, "\"neighbor 1.2.3.4 remote-as 5\": unknown command".to_owned()),
            ]
        );
    }

    #[test]
    fn a_removal() {
        let output = "\"router bgp 1 -- no neighbor x\" we failed to remove this command\n% Nope\n";
        assert_eq!(said(output), [(0, "\"router bgp 1 -- no neighbor x\": FRR cannot remove it".to_owned())]);
    }

    #[test]
    fn secrets_are_not_repeated() {
        let output = "line 7: % Unknown command[25]:  neighbour 1.2.3.4 password s3cret\n";
        let text = format!("{:?}", complaints(output));
        assert!(text.contains("<hidden>") && !text.contains("s3cret"), "{text}");
    }

    proptest! {
        #[test]
        fn any_output_is_read(output in "(line [0-9]{1,3}: |% |Failure to communicate|, line: |\"|\\PC|\n){0,40}") {
            let _ = complaints(&output);
        }
    }
}
