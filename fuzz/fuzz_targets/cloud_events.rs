//! Stored events and whatever comes as a CloudEvent: what is read is written and read again as the same.

#![no_main]

use fairlead_event::{CloudEvent, SourceEvent};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Ok(event) = CloudEvent::from_json(data) else { return };
    let again = CloudEvent::from_json(event.to_json().as_bytes());
    assert_eq!(again.as_ref(), Ok(&event));
    if let Ok(source) = SourceEvent::from_cloud_event(&event) {
        let _ = (source.subject(), source.template_value(), source.dedup_key());
    }
});
