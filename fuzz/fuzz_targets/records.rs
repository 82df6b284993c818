//! Records, exported journals, entries of the audit log, signals.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| fairlead_tests::fuzz::records(data));
