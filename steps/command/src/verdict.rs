//! What the end of a program means: passed, a no, or an error.

use fairlead_step::{StepError, Verdict};

use crate::{CAPTURE_LIMIT, Capture, Ended, Input, Output};

/// The longest line of standard error that an error repeats, in characters.
const QUOTED_LINE: usize = 300;

/// The last line of `text` that says something.
pub(crate) fn last_line(text: &str) -> Option<String> {
    let line = text.lines().rev().map(str::trim).find(|line| !line.is_empty())?;
    Some(line.chars().take(QUOTED_LINE).collect())
}

/// The verdict on a program that ended by itself.
pub(crate) fn of(input: &Input, ended: Ended) -> Result<Verdict<Output>, StepError> {
    let program = &input.program;
    let Some(code) = ended.code else {
        let by = match ended.signal {
            Some(9) => "SIGKILL".to_owned(),
            Some(15) => "SIGTERM".to_owned(),
            Some(signal) => format!("signal {signal}"),
            None => "a signal".to_owned(),
        };
        let error = with_line(format!("`{program}` was ended by {by}"), &ended.last_error_line);
        return Err(match ended.signal {
            Some(9) => error.hint("was the machine out of memory? the kernel ends a process so"),
            _ => error,
        });
    };
    let among = |codes: &std::collections::BTreeSet<u8>| {
        u8::try_from(code).is_ok_and(|code| codes.contains(&code))
    };
    if among(&input.success_codes) {
        return Ok(Verdict::passed(output(input, code, ended.stdout)?));
    }
    if ended.out_of_memory {
        let limit = ended.memory_limit.map_or(String::new(), |limit| format!(" of {limit}"));
        let message = format!("`{program}` was killed: the container ran out of its memory{limit}");
        return Err(with_line(message, &ended.last_error_line)
            .hint("let it use less, or give the step more memory"));
    }
    if among(&input.reject_codes) {
        let mut reason = format!("`{program}` answered no with exit code {code}");
        if let Some(line) = &ended.last_error_line {
            reason.push_str(": ");
            reason.push_str(line);
        }
        return Ok(Verdict::Rejected { reason, outputs: output(input, code, ended.stdout)? });
    }
    let error =
        with_line(format!("`{program}` ended with exit code {code}"), &ended.last_error_line);
    Err(if code == 126 || code == 127 {
        error.hint("the program, or one that it starts, was not found or may not be run")
    } else {
        error
    })
}

fn with_line(message: String, line: &Option<String>) -> StepError {
    StepError::terminal(match line {
        Some(line) => format!("{message}: {line}"),
        None => message,
    })
}

fn output(input: &Input, exit_code: i32, stdout: Vec<u8>) -> Result<Output, StepError> {
    let program = &input.program;
    let mut output = Output { exit_code, stdout: None, json: None };
    match input.capture {
        None => {}
        Some(Capture::Stdout) => {
            let text = String::from_utf8(stdout).map_err(|error| {
                StepError::terminal(format!("what `{program}` wrote is not UTF-8"))
                    .because(error.utf8_error())
                    .hint("let it write a file, and hand on the file's name")
            })?;
            output.stdout = Some(text.trim_end_matches(['\n', '\r']).to_owned());
        }
        Some(Capture::Json) => {
            output.json = Some(serde_json::from_slice(&stdout).map_err(|error| {
                StepError::terminal(format!("what `{program}` wrote is not JSON"))
                    .because(error)
                    .hint("only the JSON may go to standard output; messages go to standard error")
            })?);
        }
    }
    Ok(output)
}

/// The error of a program that wrote more than `capture` keeps.
pub(crate) fn too_much(program: &str) -> StepError {
    StepError::terminal(format!(
        "`{program}` wrote more than {} KiB to its standard output",
        CAPTURE_LIMIT / 1024
    ))
    .hint("leave `capture` away, or let it write a file")
}
