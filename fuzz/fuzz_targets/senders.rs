//! Every proof and every normalizer: the first byte picks the sender.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| fairlead_tests::fuzz::senders(data));
