//! Stored events and whatever comes as a CloudEvent.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| fairlead_tests::fuzz::cloud_events(data));
