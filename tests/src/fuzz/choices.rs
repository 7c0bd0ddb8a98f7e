//! Choices: bytes, read one decision at a time. Where they have ended, each decision is the first.

use std::fmt::Debug;

/// What decides how an input looks.
#[derive(Debug)]
pub struct Choices<'a> {
    bytes: &'a [u8],
    notes: Vec<String>,
}

impl<'a> Choices<'a> {
    /// From the beginning.
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, notes: Vec::new() }
    }

    /// Any byte.
    pub fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.bytes.split_first() else { return 0 };
        self.bytes = rest;
        *first
    }

    /// Any number. Small ones and those at the borders of types are as likely as all others.
    pub fn number(&mut self) -> u64 {
        let borders = [0, 1, 127, 128, 1 << 31, 1 << 32, 1 << 53, 1 << 63, u64::MAX];
        match self.below(3) {
            0 => u64::from(self.byte()),
            1 => self.pick(&borders).wrapping_add(self.pick(&[0, 1, u64::MAX]).to_owned()),
            _ => (0..8).fold(0, |number, _| number << 8 | u64::from(self.byte())),
        }
    }

    /// A number that is not negative.
    pub fn id(&mut self) -> i64 {
        i64::try_from(self.number() >> 1).unwrap()
    }

    /// A number below `end`, which must not be 0.
    pub fn below(&mut self, end: usize) -> usize {
        let wide = if end <= 256 { 0 } else { usize::from(self.byte()) << 8 };
        (wide | usize::from(self.byte())) % end
    }

    /// True once in so many times.
    pub fn one_in(&mut self, times: usize) -> bool {
        self.below(times) == times - 1
    }

    /// One of several.
    pub fn pick<'t, T>(&mut self, from: &'t [T]) -> &'t T {
        &from[self.below(from.len())]
    }

    /// Up to `most` bytes.
    pub fn bytes(&mut self, most: usize) -> Vec<u8> {
        let length = self.below(most + 1);
        (0..length).map(|_| self.byte()).collect()
    }

    /// Remembers what the target was given, to be printed if it fails.
    pub fn note(&mut self, what: &str, given: &impl Debug) {
        let mut text = format!("{what}: {given:?}");
        if text.len() > 4_000 {
            let end = (0..=4_000).rev().find(|at| text.is_char_boundary(*at)).unwrap();
            text.truncate(end);
            text.push_str(" …");
        }
        self.notes.push(text);
    }

    /// What was remembered.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }
}
