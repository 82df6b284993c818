//! Pipeline files.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| fairlead_tests::fuzz::pipelines(data));
