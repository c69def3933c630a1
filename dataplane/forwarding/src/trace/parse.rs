//! The grammar:
//!
//! ```text
//! any  = all ("or" all)*
//! all  = not ("and" not)*
//! not  = "not" not | "(" any ")" | primitive
//! primitive = "port" NAME | "vni" N | ["src" | "dst"] ("mac" MAC | "host" IP | "net" PREFIX)
//!           | "proto" (NAME | N) | NAME of a protocol | ("sport" | "dport") N | "verdict" V | "reason" NAME
//! ```

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use super::{End, Outcome, Protocol, Test};
use crate::headers::{ICMP, ICMPV6, TCP, UDP};
use crate::reason::Reason;
use crate::types::{PortId, Vni};

/// Parentheses and negations within each other; a parser that calls itself has a stack.
const MAX_DEPTH: usize = 64;
/// Characters of an expression.
const MAX_LENGTH: usize = 4096;

pub(super) const PRIMITIVES: &str =
    "port, vni, mac, host, net, src, dst, proto, a protocol, sport, dport, verdict, reason, not or (";

/// Where an expression is not understood.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("at character {position}, {}: expected {expected}", Found(.found))]
pub struct FilterError {
    /// Counted in characters, from 1.
    pub position: usize,
    /// The word there; none at the end.
    pub found: Option<String>,
    /// What would be understood.
    pub expected: String,
}

struct Found<'a>(&'a Option<String>);

impl fmt::Display for Found<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(word) => write!(f, "\"{word}\""),
            None => f.write_str("the end"),
        }
    }
}

#[derive(Clone, Copy)]
struct Word<'a> {
    /// In characters, from 1.
    position: usize,
    text: &'a str,
}

/// Words, and parentheses as words of their own.
fn words(text: &str) -> Vec<Word<'_>> {
    let mut words = Vec::new();
    // Of the word that is being read: its character and its byte.
    let mut start: Option<(usize, usize)> = None;
    for (number, (at, character)) in text.char_indices().enumerate() {
        let is_parenthesis = matches!(character, '(' | ')');
        if character.is_whitespace() || is_parenthesis {
            words.extend(start.take().map(|(position, from)| Word { position, text: &text[from..at] }));
        } else if start.is_none() {
            start = Some((number + 1, at));
        }
        if is_parenthesis {
            words.push(Word { position: number + 1, text: &text[at..at + 1] });
        }
    }
    words.extend(start.map(|(position, from)| Word { position, text: &text[from..] }));
    words
}

/// Parses an expression; one without words is everything.
pub(super) fn parse(text: &str, ports: &BTreeMap<String, PortId>) -> Result<Test, FilterError> {
    let length = text.chars().count();
    if length > MAX_LENGTH {
        let expected = format!("the end: an expression has at most {MAX_LENGTH} characters");
        return Err(FilterError { position: MAX_LENGTH + 1, found: None, expected });
    }
    let words = words(text);
    let mut parser = Parser { words: &words, next: 0, end: length + 1, ports };
    if words.is_empty() {
        return Ok(Test::All(Vec::new()));
    }
    let test = parser.any(0)?;
    match parser.peek() {
        None => Ok(test),
        Some(_) => Err(parser.unexpected("and, or, or the end")),
    }
}

struct Parser<'a> {
    words: &'a [Word<'a>],
    next: usize,
    /// The position behind the last character.
    end: usize,
    ports: &'a BTreeMap<String, PortId>,
}

impl<'a> Parser<'a> {
    fn peek(&self) -> Option<&'a str> {
        self.words.get(self.next).map(|word| word.text)
    }

    /// Takes the next word if it is this one.
    fn take(&mut self, text: &str) -> bool {
        let is = self.peek() == Some(text);
        self.next += usize::from(is);
        is
    }

    /// The next word is not one that is understood there.
    fn unexpected(&self, expected: impl Into<String>) -> FilterError {
        let word = self.words.get(self.next);
        FilterError {
            position: word.map_or(self.end, |word| word.position),
            found: word.map(|word| word.text.to_owned()),
            expected: expected.into(),
        }
    }

    fn any(&mut self, depth: usize) -> Result<Test, FilterError> {
        let mut tests = vec![self.all(depth)?];
        while self.take("or") {
            tests.push(self.all(depth)?);
        }
        Ok(single(tests, Test::Any))
    }

    fn all(&mut self, depth: usize) -> Result<Test, FilterError> {
        let mut tests = vec![self.not(depth)?];
        while self.take("and") {
            tests.push(self.not(depth)?);
        }
        Ok(single(tests, Test::All))
    }

    fn not(&mut self, depth: usize) -> Result<Test, FilterError> {
        if depth > MAX_DEPTH {
            return Err(self.unexpected(format!("no more than {MAX_DEPTH} levels of not and parentheses")));
        }
        if self.take("not") {
            return Ok(Test::Not(Box::new(self.not(depth + 1)?)));
        }
        if self.take("(") {
            let test = self.any(depth + 1)?;
            return if self.take(")") { Ok(test) } else { Err(self.unexpected("and, or, or )")) };
        }
        self.primitive()
    }

    fn primitive(&mut self) -> Result<Test, FilterError> {
        let Some(word) = self.peek() else { return Err(self.unexpected(PRIMITIVES)) };
        if let Some(protocol) = protocol(word) {
            self.next += 1;
            return Ok(Test::Protocol(protocol));
        }
        let end = match word {
            "src" => End::Source,
            "dst" => End::Destination,
            "mac" | "host" | "net" => return self.station(End::Either),
            "port" | "vni" | "proto" | "sport" | "dport" | "verdict" | "reason" => {
                self.next += 1;
                return self.of(word);
            }
            _ => return Err(self.unexpected(PRIMITIVES)),
        };
        self.next += 1;
        self.station(end)
    }

    fn station(&mut self, end: End) -> Result<Test, FilterError> {
        let kind = self.peek();
        let known = matches!(kind, Some("mac" | "host" | "net"));
        if !known {
            return Err(self.unexpected("mac, host or net"));
        }
        self.next += 1;
        match kind {
            Some("mac") => Ok(Test::Mac(end, self.value("a MAC, as aa:bb:cc:00:00:01")?)),
            Some("host") => {
                let address: IpAddr = self.value("an IPv4 or IPv6 address")?;
                Ok(Test::Net(end, address.into()))
            }
            _ => Ok(Test::Net(end, self.value("a prefix, as 10.1.0.0/24")?)),
        }
    }

    fn of(&mut self, kind: &str) -> Result<Test, FilterError> {
        match kind {
            "port" => {
                let ports = self.ports;
                self.find(
                    Test::Port,
                    |name| ports.get(name).copied(),
                    || {
                        let names: Vec<_> = ports.keys().map(String::as_str).collect();
                        let names =
                            if names.is_empty() { "there is none".to_owned() } else { names.join(", ") };
                        format!("the name of a port: {names}")
                    },
                )
            }
            "vni" => {
                let vni: u32 =
                    self.checked("a VNI, 1 to 16777215", |number: u32| Vni::new(number).is_ok())?;
                Ok(Test::Vni(vni))
            }
            "proto" => self.find(
                Test::Protocol,
                |word| protocol(word).or_else(|| word.parse().ok().map(Protocol::Number)),
                || "tcp, udp, icmp, icmp6, arp, nd or a number, 0 to 255".to_owned(),
            ),
            "sport" => Ok(Test::TransportPort(End::Source, self.value("a port number, 0 to 65535")?)),
            "dport" => Ok(Test::TransportPort(End::Destination, self.value("a port number, 0 to 65535")?)),
            "verdict" => self.find(
                Test::Verdict,
                |word| {
                    Some(match word {
                        "transmit" => Outcome::Transmit,
                        "replicate" => Outcome::Replicate,
                        "hand-over" => Outcome::HandOver,
                        "drop" => Outcome::Drop,
                        _ => return None,
                    })
                },
                || "transmit, replicate, hand-over or drop".to_owned(),
            ),
            _ => self.find(
                Test::Reason,
                |word| Reason::ALL.iter().find(|reason| reason.name() == word).copied(),
                || {
                    let names: Vec<_> = Reason::ALL.iter().map(|reason| reason.name()).collect();
                    format!("a reason: {}", names.join(", "))
                },
            ),
        }
    }

    /// The next word as a value of a type.
    fn value<T: FromStr + Copy>(&mut self, expected: &str) -> Result<T, FilterError> {
        self.checked(expected, |_: T| true)
    }

    fn checked<T: FromStr + Copy>(
        &mut self,
        expected: &str,
        is_right: impl Fn(T) -> bool,
    ) -> Result<T, FilterError> {
        let value = self.peek().and_then(|word| word.parse().ok()).filter(|value| is_right(*value));
        let value = value.ok_or_else(|| self.unexpected(expected))?;
        self.next += 1;
        Ok(value)
    }

    /// The next word as one of some names.
    fn find<T>(
        &mut self,
        make: impl Fn(T) -> Test,
        find: impl Fn(&str) -> Option<T>,
        expected: impl Fn() -> String,
    ) -> Result<Test, FilterError> {
        match self.peek().and_then(find) {
            Some(found) => {
                self.next += 1;
                Ok(make(found))
            }
            None => Err(self.unexpected(expected())),
        }
    }
}

/// One test needs no list.
fn single(mut tests: Vec<Test>, list: impl Fn(Vec<Test>) -> Test) -> Test {
    match (tests.pop(), tests.is_empty()) {
        (Some(only), true) => only,
        (last, _) => {
            tests.extend(last);
            list(tests)
        }
    }
}

fn protocol(word: &str) -> Option<Protocol> {
    Some(match word {
        "tcp" => Protocol::Number(TCP),
        "udp" => Protocol::Number(UDP),
        "icmp" => Protocol::Number(ICMP),
        "icmp6" => Protocol::Number(ICMPV6),
        "arp" => Protocol::Arp,
        "nd" => Protocol::Nd,
        "ip" => Protocol::Ip4,
        "ip6" => Protocol::Ip6,
        "vxlan" => Protocol::Vxlan,
        _ => return None,
    })
}
