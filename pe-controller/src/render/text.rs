use std::fmt::{Display, Write};

/// FRR configuration text that grows line by line, one blank of indentation per block as FRR shows it.
#[derive(Debug, Default)]
pub(super) struct Text {
    text: String,
    indent: usize,
    lines: usize,
}

impl Text {
    /// Adds a line.
    pub(super) fn line(&mut self, line: impl Display) {
        // Writing to a String cannot fail.
        let _ = writeln!(self.text, "{:indent$}{line}", "", indent = self.indent);
        self.lines += 1;
    }

    /// Adds FRR's empty comment.
    pub(super) fn separator(&mut self) {
        self.line("!");
    }

    /// Adds a block: `head`, what `body` adds, and `tail`.
    pub(super) fn block(&mut self, head: impl Display, tail: &str, body: impl FnOnce(&mut Self)) {
        self.line(head);
        self.indent += 1;
        body(self);
        self.indent -= 1;
        self.line(tail);
    }

    /// Number of the next line, counted from 1.
    pub(super) fn next_line(&self) -> usize {
        self.lines + 1
    }

    /// The text.
    pub(super) fn finish(self) -> String {
        self.text
    }
}
