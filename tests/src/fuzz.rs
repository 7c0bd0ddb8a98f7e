//! Fuzzing: a parser is given many inputs, and what must hold of each is asserted.
//!
//! A target is an ordinary test that calls [`check`]. It builds its input out of [`Choices`], which are bytes: so an input
//! has structure (a real request with a few things wrong), and yet a file of bytes says exactly which it was. The
//! ordinary test takes a fixed number of random files, always the same; with `tests/run fuzz` libFuzzer chooses them, led
//! by the branches that they reach. An input that fails is written to `target/fuzz/failing` and its text is printed.
//!
//! It must not know the program: the parsers' own crates call it.

mod choices;
mod corpus;
mod json;
mod text;

use std::cell::Cell;
use std::env;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::PathBuf;
use std::sync::Once;

pub use self::choices::Choices;
pub use self::corpus::corpus;
pub use self::json::json;
pub use self::text::{spoiled, text};
use crate::random::Random;

/// How many inputs the ordinary test tries, unless `TEST_FUZZ_INPUTS` says otherwise.
const INPUTS: u64 = 1_000;

/// Gives the target of this name many inputs.
pub fn check(name: &str, target: impl Fn(&mut Choices<'_>)) {
    if let Some(file) = env::var_os("TEST_FUZZ_INPUT") {
        // Cargo runs tests in the directories of their packages.
        let file = crate::paths::repository().join(file);
        let bytes = fs::read(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        return replay(&target, &bytes);
    }
    if led_by_coverage(&target) {
        return;
    }
    let inputs = env::var_os("TEST_FUZZ_INPUTS")
        .map_or(INPUTS, |text| text.to_str().unwrap().parse().unwrap());
    for number in 0..inputs {
        let bytes = input(number);
        if fails(&target, &bytes) {
            let shortest = shortened(&target, bytes);
            let file = keep(name, number, &shortest);
            eprintln!(
                "input {number} of the target {name} fails; it is kept as {}",
                file.display()
            );
            return replay(&target, &shortest);
        }
    }
}

/// With the cfg that `tests/run fuzz` sets, libFuzzer chooses the inputs, and ends the process when it is done.
#[cfg(fuzzing_libfuzzer)]
fn led_by_coverage(target: &impl Fn(&mut Choices<'_>)) -> bool {
    let target = AssertUnwindSafe(target);
    // The macro may return, and with nothing.
    let lead = || {
        bolero::check!().for_each(move |bytes: &[u8]| (*target)(&mut Choices::new(bytes)));
    };
    lead();
    true
}

#[cfg(not(fuzzing_libfuzzer))]
const fn led_by_coverage(_target: &impl Fn(&mut Choices<'_>)) -> bool {
    false
}

/// The random bytes of a number. Some are few: what they leave open is the first choice.
fn input(number: u64) -> Vec<u8> {
    let mut random = Random::seeded(number);
    let most = [16, 100, 1_000][usize::try_from(number % 3).unwrap()];
    let length = random.between(0, most);
    (0..length).map(|_| u8::try_from(random.between(0, 255)).unwrap()).collect()
}

/// Tries an input. That it fails is not printed: [`replay`] does that, once.
fn fails(target: &impl Fn(&mut Choices<'_>), bytes: &[u8]) -> bool {
    thread_local! {
        static TRYING: Cell<bool> = const { Cell::new(false) };
    }
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let print = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if !TRYING.get() {
                print(info);
            }
        }));
    });
    TRYING.set(true);
    let outcome = catch_unwind(AssertUnwindSafe(|| target(&mut Choices::new(bytes))));
    TRYING.set(false);
    outcome.is_err()
}

/// Runs an input and says what it was made of, if it fails.
fn replay(target: &impl Fn(&mut Choices<'_>), bytes: &[u8]) {
    let mut choices = Choices::new(bytes);
    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| target(&mut choices))) {
        for note in choices.notes() {
            eprintln!("the target was given: {note}");
        }
        resume_unwind(panic);
    }
}

/// The input without what is not needed at its end: an absent choice is the first one.
fn shortened(target: &impl Fn(&mut Choices<'_>), mut bytes: Vec<u8>) -> Vec<u8> {
    let mut cut = bytes.len().div_ceil(2);
    while cut > 0 {
        let shorter = &bytes[..bytes.len().saturating_sub(cut)];
        if !bytes.is_empty() && fails(target, shorter) {
            bytes.truncate(shorter.len());
        } else {
            cut /= 2;
        }
    }
    bytes
}

fn keep(name: &str, number: u64, bytes: &[u8]) -> PathBuf {
    let directory = crate::paths::repository().join("target/fuzz/failing");
    fs::create_dir_all(&directory).unwrap();
    let file = directory.join(format!("{name}-{number}"));
    fs::write(&file, bytes).unwrap();
    file
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failing_input_is_found_shortened_and_kept() {
        let target =
            |choices: &mut Choices<'_>| assert!(choices.byte() < 200, "a fault to be found");
        let found = catch_unwind(|| check("the_fuzzing_itself", target));
        assert!(found.is_err());
        let kept = crate::paths::repository().join("target/fuzz/failing");
        let ours = fs::read_dir(kept)
            .unwrap()
            .map(Result::unwrap)
            .find(|file| file.file_name().to_string_lossy().starts_with("the_fuzzing_itself"));
        let ours = ours.unwrap().path();
        let bytes = fs::read(&ours).unwrap();
        assert!(bytes.len() == 1 && bytes[0] >= 200, "{bytes:?}");
        fs::remove_file(ours).unwrap();
    }

    #[test]
    fn a_number_is_always_the_same_input() {
        assert_eq!(input(7), input(7));
        assert_ne!(input(7), input(8));
    }
}
