//! What was found, as a file and as tables.

use std::{collections::BTreeMap, fmt};

use comfy_table::{Table, presets};
use serde::Serialize;

use super::{BACKENDS, Measured, Traffic};

/// Everything.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Report {
    forwarding: Vec<Row>,
    /// The driver behind each kind of port.
    pub(crate) drivers: BTreeMap<&'static str, String>,
    pub(crate) tcp: Tcp,
}

/// One kind of traffic.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Row {
    name: String,
    /// Generator and sink alone.
    pub(crate) baseline: Figure,
    pub(crate) kernel: Figure,
    /// By kind of port.
    pub(crate) engine: BTreeMap<&'static str, Figure>,
    /// Packets per CPU-second of the engine to those of the kernel, both less the baseline, by kind of port.
    ratio: BTreeMap<&'static str, f64>,
}

/// The best of several measurements.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(crate) struct Figure {
    /// CPU time per packet, nanoseconds, generator and sink included.
    nanoseconds: f64,
    /// Packets per second of that measurement.
    rate: f64,
    /// Packets lost in it.
    lost: u64,
}

/// One TCP connection each way.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(crate) struct Tcp {
    pub(crate) kernel: Stream,
    pub(crate) engine: Stream,
    /// Of the engine to the kernel; no unit.
    ratio: Stream,
}

/// Of both directions: bit/s, the best of several measurements.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(crate) struct Stream {
    /// From the host.
    out: f64,
    /// To the host.
    back: f64,
}

impl Report {
    /// The row of `traffic`.
    pub(crate) fn row(&mut self, traffic: Traffic) -> &mut Row {
        let name = traffic.name();
        let index = self.forwarding.iter().position(|row| row.name == name).unwrap_or_else(|| {
            self.forwarding.push(Row::new(name));
            self.forwarding.len() - 1
        });
        &mut self.forwarding[index]
    }

    /// Works out the ratios.
    pub(crate) fn finish(&mut self) {
        for row in &mut self.forwarding {
            let net = |figure: &Figure| figure.nanoseconds - row.baseline.nanoseconds;
            let kernel = net(&row.kernel);
            row.ratio = row.engine.iter().map(|(backend, figure)| (*backend, kernel / net(figure))).collect();
        }
        let Tcp { kernel, engine, .. } = self.tcp;
        self.tcp.ratio = Stream { out: engine.out / kernel.out, back: engine.back / kernel.back };
    }
}

impl Row {
    fn new(name: String) -> Self {
        let none = Figure::default();
        Self { name, baseline: none, kernel: none, engine: BTreeMap::new(), ratio: BTreeMap::new() }
    }
}

impl Figure {
    /// Takes a measurement in.
    pub(crate) fn add(&mut self, measured: Measured) {
        if self.nanoseconds == 0.0 || measured.nanoseconds < self.nanoseconds {
            let Measured { rate, nanoseconds, lost } = measured;
            *self = Self { nanoseconds, rate, lost };
        }
    }
}

impl Stream {
    /// Takes a measurement in, bit/s.
    pub(crate) fn add(&mut self, out: f64, back: f64) {
        *self = Self { out: self.out.max(out), back: self.back.max(back) };
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut table = Table::new();
        table.load_style(presets::ASCII_MARKDOWN);
        let mut header = vec!["ns of CPU per packet".to_owned(), "generator".to_owned(), "kernel".to_owned()];
        header.extend(BACKENDS.map(str::to_owned));
        header.extend(BACKENDS.map(|backend| format!("{backend} : kernel")));
        table.set_header(header);
        for row in &self.forwarding {
            let base = row.baseline.nanoseconds;
            let mut cells = vec![row.name.clone(), format!("{base:.0}")];
            cells.push(format!("{:.0}", row.kernel.nanoseconds - base));
            let of =
                |backend| row.engine.get(backend).map(|figure| format!("{:.0}", figure.nanoseconds - base));
            cells.extend(BACKENDS.map(|backend| of(backend).unwrap_or_default()));
            let ratio = |backend| row.ratio.get(backend).map(|ratio| format!("{ratio:.2}"));
            cells.extend(BACKENDS.map(|backend| ratio(backend).unwrap_or_default()));
            table.add_row(cells);
        }
        writeln!(f, "{table}\n")?;
        let mut table = Table::new();
        table.load_style(presets::ASCII_MARKDOWN);
        table.set_header(["TCP, Gbit/s", "kernel", "engine", "engine : kernel"]);
        let Tcp { kernel, engine, ratio } = self.tcp;
        for (name, kernel, engine, ratio) in [
            ("from the host", kernel.out, engine.out, ratio.out),
            ("to the host", kernel.back, engine.back, ratio.back),
        ] {
            let cells = [kernel / 1e9, engine / 1e9, ratio].map(|value| format!("{value:.2}"));
            table.add_row([vec![name.to_owned()], cells.to_vec()].concat());
        }
        write!(f, "{table}")
    }
}
