//! How one input is made.
//!
//! Random bytes do not get past the first checksum, and neither does a flipped bit. So an input is
//! mostly a good encoding with a few changes, some of them to the fields that matter (lengths,
//! counts, kinds), after which the checksums are made right again.

use std::ops::Range;

use bolero::generator::{TypeGenerator, produce_with};

use crate::fuzzing::Random;

/// One input, and how it is handed over.
#[derive(Clone, Debug, TypeGenerator)]
pub struct Plan {
    pub source: Source,
    #[generator(produce_with::<Vec<Change>>().len(0..5usize))]
    pub changes: Vec<Change>,
    /// Whether checksums are made right again after the changes.
    pub repaired: bool,
    /// Where the input is cut into pieces, modulo its length.
    #[generator(produce_with::<Vec<u16>>().len(0..6usize))]
    pub cuts: Vec<u16>,
    /// For whatever else a target draws.
    pub seed: u64,
}

/// What an input is made from.
#[derive(Clone, Debug, TypeGenerator)]
pub enum Source {
    /// One of the target's samples, modulo their count.
    Sample(u16),
    /// A value made with these random numbers, and encoded.
    Made(u64),
    /// The encoding of two made values, one behind the other.
    MadeTwice(u64),
    /// Anything.
    Noise(#[generator(produce_with::<Vec<u8>>().len(0..200usize))] Vec<u8>),
}

/// A change to the bytes. Places are taken modulo the length.
#[derive(Clone, Debug, TypeGenerator)]
pub enum Change {
    /// One bit.
    Flip { at: u16, bit: u8 },
    /// A number of 1, 2, 4 or 8 bytes somewhere.
    Number { at: u16, width: u8, number: Number },
    /// A number in a field that the format names.
    Field { which: u16, number: Number },
    /// Bytes are left out.
    Cut { at: u16, length: u8 },
    /// All is left out from here on.
    Truncate { at: u16 },
    /// Bytes are put in.
    Insert {
        at: u16,
        #[generator(produce_with::<Vec<u8>>().len(0..9usize))]
        bytes: Vec<u8>,
    },
    /// A stretch comes a second time, elsewhere.
    Repeat { from: u16, length: u16, at: u16 },
    /// A stretch of another sample takes the place of one.
    Splice { sample: u16, from: u16, length: u16, at: u16 },
}

/// Numbers at which decoders stumble.
#[derive(Clone, Copy, Debug, TypeGenerator)]
pub enum Number {
    Zero,
    Most,
    /// A little more or less than what stood there.
    Near(i8),
    /// A little more or less than the length of the whole input.
    Length(i8),
    /// A power of two, and one less.
    Power(u8),
    BelowPower(u8),
    Small(u8),
    Any(u64),
}

impl Number {
    fn value(self, was: u64, length: usize) -> u64 {
        let near = |number: u64, by: i8| number.wrapping_add_signed(i64::from(by));
        match self {
            Self::Zero => 0,
            Self::Most => u64::MAX,
            Self::Near(by) => near(was, by),
            Self::Length(by) => near(u64::try_from(length).expect("fits"), by),
            Self::Power(power) => 1 << (power % 64),
            Self::BelowPower(power) => (1 << (power % 64)) - 1,
            Self::Small(number) => u64::from(number),
            Self::Any(number) => number,
        }
    }
}

/// What is known of an encoding.
pub trait Format {
    /// Where its lengths, counts and kinds stand in `bytes`, which may be anything.
    fn fields(&self, bytes: &[u8]) -> Vec<Range<usize>>;

    /// Makes its checksums right again, where there is anything to be made right.
    fn repair(&self, bytes: &mut [u8]);

    /// Reads a field.
    fn read(&self, field: &[u8]) -> u64 {
        let mut bytes = [0; 8];
        let width = field.len().min(8);
        bytes[..width].copy_from_slice(&field[..width]);
        u64::from_le_bytes(bytes)
    }

    /// Writes a field that had `width` bytes.
    fn write(&self, number: u64, width: usize) -> Vec<u8> {
        number.to_le_bytes()[..width.min(8)].to_vec()
    }
}

impl Plan {
    /// The input: of `samples`, or of what `made` encodes with the numbers it is given.
    pub fn input(
        &self,
        format: &impl Format,
        samples: &[Vec<u8>],
        made: impl Fn(&mut Random) -> Vec<u8>,
    ) -> Vec<u8> {
        let mut bytes = match &self.source {
            Source::Sample(number) => samples[usize::from(*number) % samples.len()].clone(),
            Source::Made(seed) => made(&mut Random(*seed)),
            Source::MadeTwice(seed) => {
                let mut random = Random(*seed);
                let mut bytes = made(&mut random);
                bytes.extend(made(&mut random));
                bytes
            }
            Source::Noise(bytes) => bytes.clone(),
        };
        for change in &self.changes {
            change.apply(&mut bytes, format, samples);
        }
        if self.repaired {
            format.repair(&mut bytes);
        }
        bytes
    }

    /// The same bytes in the pieces in which they are handed over; some may be empty.
    pub fn pieces<'bytes>(&self, bytes: &'bytes [u8]) -> Vec<&'bytes [u8]> {
        let mut ends: Vec<usize> = self.cuts.iter().map(|at| place(*at, bytes.len() + 1)).collect();
        ends.push(bytes.len());
        ends.sort_unstable();
        let mut begin = 0;
        let cut = |end| &bytes[std::mem::replace(&mut begin, end)..end];
        ends.into_iter().map(cut).collect()
    }
}

/// A place below `end`, which is at least 1. Small inputs are reached everywhere, large ones in
/// steps.
fn place(at: u16, end: usize) -> usize {
    let at = usize::from(at);
    if end <= 1 << 16 { at % end } else { at * (end >> 16) + at % (end >> 16) }
}

impl Change {
    fn apply(&self, bytes: &mut Vec<u8>, format: &impl Format, samples: &[Vec<u8>]) {
        let length = bytes.len();
        if length == 0 {
            if let Self::Insert { bytes: inserted, .. } = self {
                bytes.clone_from(inserted);
            }
            return;
        }
        match self {
            Self::Flip { at, bit } => bytes[place(*at, length)] ^= 1 << (bit % 8),
            Self::Number { at, width, number } => {
                let begin = place(*at, length);
                let end = (begin + (1 << (width % 4))).min(length);
                put(bytes, begin..end, *number, format);
            }
            Self::Field { which, number } => {
                let fields = format.fields(bytes);
                if !fields.is_empty() {
                    let field = fields[usize::from(*which) % fields.len()].clone();
                    put(bytes, field, *number, format);
                }
            }
            Self::Cut { at, length: cut } => {
                let begin = place(*at, length);
                bytes.drain(begin..(begin + usize::from(*cut)).min(length));
            }
            Self::Truncate { at } => bytes.truncate(place(*at, length)),
            Self::Insert { at, bytes: inserted } => {
                let at = place(*at, length + 1);
                bytes.splice(at..at, inserted.iter().copied());
            }
            Self::Repeat { from, length: stretch, at } => {
                let stretch = stretch_of(bytes, *from, *stretch).to_vec();
                let at = place(*at, length + 1);
                bytes.splice(at..at, stretch);
            }
            Self::Splice { sample, from, length: stretch, at } => {
                let sample = &samples[usize::from(*sample) % samples.len()];
                if sample.is_empty() {
                    return;
                }
                let stretch = stretch_of(sample, *from, *stretch);
                let begin = place(*at, length);
                let end = (begin + stretch.len()).min(length);
                bytes.splice(begin..end, stretch.iter().copied());
            }
        }
    }
}

fn stretch_of(bytes: &[u8], from: u16, length: u16) -> &[u8] {
    let begin = place(from, bytes.len());
    &bytes[begin..(begin + 1 + usize::from(length % 512)).min(bytes.len())]
}

fn put(bytes: &mut Vec<u8>, field: Range<usize>, number: Number, format: &impl Format) {
    let was = format.read(&bytes[field.clone()]);
    let now = number.value(was, bytes.len());
    let written = format.write(now, field.len());
    bytes.splice(field, written);
}
