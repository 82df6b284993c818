//! Commands in comments, which anybody may write.

#![no_main]

use fairlead_event::CommentCommand;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Ok(Some(command)) = CommentCommand::in_comment(text) {
        assert!(!command.verb.is_empty() && command.args.len() <= 32);
    }
});
