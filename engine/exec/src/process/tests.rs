//! Processes that really run, and really end.

use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use fairlead_run::MAX_LINE_BYTES as LINE_LIMIT;
use fairlead_step::{CancelHandle, Progress, Secret};

use super::*;
use crate::tests::whole_line;

#[derive(Default)]
struct Kept(Mutex<Vec<(Stream, String)>>);

impl Log for Kept {
    fn line(&self, stream: Stream, text: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push((stream, text.to_owned()));
    }

    fn progress(&self, _: Progress) {}
}

struct Bench {
    host: ProcessHost,
    log: Arc<Kept>,
    cancel: Option<CancelHandle>,
    folder: tempfile::TempDir,
}

fn bench() -> Bench {
    bench_with(&[], Duration::from_secs(5))
}

fn bench_with(secrets: &[&str], grace: Duration) -> Bench {
    let folder = tempfile::tempdir().unwrap();
    let log = Arc::new(Kept::default());
    let (handle, cancel) = CancelToken::new();
    let named = secrets.iter().map(|s| ((*s).to_owned(), Secret::new((*s).to_owned())));
    let options = ProcessOptions {
        environment: vec![("PATH".into(), DEFAULT_PATH.into()), ("LANG".into(), "C".into())],
        grace,
        mark: None,
    };
    let mask = Arc::new(Mask::new(&named.collect()));
    let host = ProcessHost::new(Arc::new(options), folder.path(), log.clone(), mask, cancel);
    Bench { host, log, cancel: Some(handle), folder }
}

impl Bench {
    fn text(&self) -> String {
        let lines = self.log.0.lock().unwrap_or_else(PoisonError::into_inner);
        lines.iter().map(|(stream, line)| format!("{stream:?}: {line}\n")).collect()
    }

    async fn line_in(&self, file: &str) -> String {
        whole_line(&self.folder.path().join(file)).await
    }
}

fn sh(script: &str) -> ProcessSpec {
    ProcessSpec::new("sh", ["-c", script])
}

/// Whether the process `id` is alive: there, and no zombie that waits for somebody to reap it.
fn alive(id: &str) -> bool {
    std::fs::read_to_string(format!("/proc/{id}/stat"))
        .is_ok_and(|stat| !stat.rsplit(')').next().unwrap_or("").trim().starts_with('Z'))
}

async fn until_gone(id: &str) {
    while alive(id) {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn output_goes_to_the_log_line_by_line() {
    let bench = bench();
    let exit =
        bench.host.run(sh("echo one; echo two >&2; printf 'a\\377b'; exit 3")).await.unwrap();
    assert_eq!((exit.code, exit.signal, exit.stderr_tail.as_str()), (Some(3), None, "two"));
    let text = bench.text();
    for line in ["Stdout: one\n", "Stderr: two\n", "Stdout: a\u{fffd}b\n"] {
        assert!(text.contains(line), "{text}");
    }
}

#[tokio::test]
async fn the_environment_is_what_was_allowed_and_asked_for() {
    let bench = bench();
    let mut spec = ProcessSpec::new("env", [""; 0]).env("MINE", "1").env("LANG", "de").capture(999);
    let exit = bench.host.run(spec.clone()).await.unwrap();
    let mut lines: Vec<_> = std::str::from_utf8(&exit.stdout).unwrap().lines().collect();
    lines.sort_unstable();
    let path = format!("PATH={DEFAULT_PATH}");
    let mark = lines.remove(0);
    assert!(mark.starts_with("FAIRLEAD_PROCESS=") && mark.len() == 17 + 32, "{mark}");
    assert_eq!(lines, ["LANG=de", "MINE=1", &path]);

    spec.inherit_env = false;
    spec.env.clear();
    let exit = bench.host.run(spec).await.unwrap();
    let lines = std::str::from_utf8(&exit.stdout).unwrap().lines();
    let lines: Vec<_> = lines.filter(|line| !line.starts_with("FAIRLEAD_PROCESS=")).collect();
    assert_eq!(lines, [path]);
}

#[tokio::test]
async fn standard_input_is_fed_while_output_is_read() {
    let bench = bench();
    let bytes = Bytes::from(vec![b'x'; 1 << 20]);
    let mut spec = ProcessSpec::new("cat", [""; 0]).capture(1 << 20);
    spec.stdin = Some(bytes.clone());
    assert_eq!(bench.host.run(spec).await.unwrap().stdout, bytes);

    // A process that reads none of its input ends all the same.
    let mut spec = ProcessSpec::new("true", [""; 0]);
    spec.stdin = Some(bytes);
    assert!(bench.host.run(spec).await.unwrap().success());

    // Without input, standard input is at its end from the start.
    assert!(bench.host.run(ProcessSpec::new("cat", [""; 0])).await.unwrap().success());
}

#[tokio::test]
async fn what_cannot_start_says_why() {
    let bench = bench();
    std::fs::write(bench.folder.path().join("plain.txt"), "no program").unwrap();
    for (spec, want) in [
        (ProcessSpec::new("no-such-program", [""; 0]), "`no-such-program` is not on this machine"),
        (ProcessSpec::new("./no-such-program", [""; 0]), "is not on this machine"),
        (ProcessSpec::new("", [""; 0]), "is not on this machine"),
        (ProcessSpec::new("./plain.txt", [""; 0]), "Permission denied"),
        (ProcessSpec::new("true", [""; 0]).current_dir("nowhere"), "is not there"),
        (ProcessSpec::new("true", ["a\0b"]), "nul byte"),
    ] {
        let error = bench.host.run(spec).await.unwrap_err();
        let text = fairlead_step::StepError::from(error).chain();
        assert!(text.contains(want), "{text}");
    }
}

#[tokio::test]
async fn too_much_output_ends_the_process() {
    let bench = bench();
    let error = bench.host.run(sh("cat /dev/zero").capture(1000)).await.unwrap_err();
    assert!(matches!(error, ProcessError::TooMuchOutput { limit: 1000, .. }), "{error}");
    assert!(bench.host.run(sh("printf 12345").capture(5)).await.is_ok());
}

#[tokio::test]
async fn a_deadline_ends_the_whole_group() {
    let bench = bench();
    let mut spec = sh("sleep 1000 & echo $! > pid; wait");
    spec.timeout = Some(Duration::from_millis(200));
    let error = bench.host.run(spec).await.unwrap_err();
    assert!(matches!(error, ProcessError::TimedOut { .. }), "{error}");
    assert!(!alive(&bench.line_in("pid").await));
    assert!(bench.text().contains("SIGTERM to its group"), "{}", bench.text());
}

#[tokio::test]
async fn a_cancel_ends_the_whole_group_and_the_log_says_how() {
    let mut bench = bench();
    let handle = bench.cancel.take().unwrap();
    let spec = sh("sleep 1000 & echo $! > pid; wait");
    let (result, ()) = tokio::join!(bench.host.run(spec), async {
        bench.line_in("pid").await;
        handle.cancel();
    });
    let error = result.unwrap_err().to_string();
    assert_eq!(error, "the step was told to stop, and `sh` ended after SIGTERM");
    assert!(!alive(&bench.line_in("pid").await));
    assert!(bench.text().contains("was ended by SIGTERM (15)"), "{}", bench.text());

    // Once cancelled, nothing starts.
    let result = bench.host.run(sh("echo started > second")).await;
    let error = result.unwrap_err().to_string();
    assert_eq!(error, "the step was told to stop, and `sh` was not started");
    assert!(!bench.folder.path().join("second").exists());
}

#[tokio::test]
async fn who_ignores_the_termination_signal_is_killed() {
    let mut bench = bench_with(&[], Duration::from_millis(100));
    let handle = bench.cancel.take().unwrap();
    let spec = sh("trap '' TERM; echo $$ > pid; while :; do sleep 1000; done");
    let (result, ()) = tokio::join!(bench.host.run(spec), async {
        bench.line_in("pid").await;
        handle.cancel();
    });
    let error = result.unwrap_err().to_string();
    assert!(
        error.ends_with("`sh` ended after SIGKILL: it went on after SIGTERM, beyond its grace")
    );
    assert!(!alive(&bench.line_in("pid").await));
    let text = bench.text();
    assert!(text.contains("did not end within 100ms of SIGTERM"), "{text}");
    assert!(text.contains("was ended by SIGKILL (9)"), "{text}");
}

#[tokio::test]
async fn who_dies_by_a_signal_is_named_with_it() {
    let bench = bench();
    let exit = bench.host.run(sh("kill -SEGV $$")).await.unwrap();
    assert_eq!((exit.code, exit.signal), (None, Some(11)));
    assert!(bench.text().contains("was ended by SIGSEGV (11)"), "{}", bench.text());
}

#[tokio::test]
async fn a_dropped_future_ends_the_group() {
    let bench = bench();
    let spec = sh("sleep 1000 & echo $! > pid; wait");
    tokio::select! {
        _ = bench.host.run(spec) => panic!("it ended by itself"),
        _ = bench.line_in("pid") => {}
    }
    until_gone(&bench.line_in("pid").await).await;
}

#[tokio::test]
async fn what_is_left_behind_neither_hangs_the_step_nor_outlives_it() {
    let bench = bench();
    let began = std::time::Instant::now();
    let exit = bench.host.run(sh("sleep 1000 & echo $! > pid; echo done")).await.unwrap();
    assert!(exit.success());
    assert!(!alive(&bench.line_in("pid").await));
    assert!(bench.text().contains("left processes behind"), "{}", bench.text());

    // One that fled from the group and holds the pipes is waited for no longer than a moment.
    let exit = bench.host.run(sh("setsid sleep 1000 & echo $! > fled; echo done")).await.unwrap();
    assert!(exit.success());
    assert!(began.elapsed() < Duration::from_secs(30));
    let fled = bench.line_in("fled").await;
    bench.host.run(ProcessSpec::new("kill", [fled.as_str()])).await.unwrap();
}

#[tokio::test]
async fn secrets_are_masked_in_the_tail_and_long_lines_arrive_uncut_to_be_masked() {
    let secret = "s3cret-value";
    let bench = bench_with(&[secret], Duration::from_secs(5));
    let filler = LINE_LIMIT - 5;
    let script =
        format!("head -c {filler} /dev/zero | tr '\\0' x; echo {secret}; echo bad {secret} >&2");
    let exit = bench.host.run(sh(&script)).await.unwrap();
    assert_eq!(exit.stderr_tail, "bad ****");
    // The line is longer than the limit here; the log masks it before it cuts.
    assert!(bench.text().contains(&format!("x{secret}\n")));
}

#[tokio::test]
async fn what_left_the_group_ends_with_it_and_the_log_names_it() {
    // A session of its own; one whose parent is gone; one that also cleared its environment but has
    // its parent; and one below a host within a step, which has a mark of its own.
    for script in [
        "setsid sh -c 'echo $$ > pid; sleep 1000' & wait",
        "(setsid sh -c 'echo $$ > pid; sleep 1000' >/dev/null 2>&1 &) ; sleep 1000",
        "env -i setsid -w sh -c 'echo $$ > pid; sleep 1000' & wait",
        "FAIRLEAD_PROCESS=\"$FAIRLEAD_PROCESS,inner\" setsid sh -c 'echo $$ > pid; sleep 1000' & wait",
    ] {
        let mut bench = bench();
        let handle = bench.cancel.take().unwrap();
        let (result, ()) = tokio::join!(bench.host.run(sh(script)), async {
            bench.line_in("pid").await;
            handle.cancel();
        });
        let error = result.unwrap_err().to_string();
        assert!(error.contains("ended after SIGTERM"), "{error}");
        assert!(!alive(&bench.line_in("pid").await), "{script}");
        let text = bench.text();
        assert!(text.contains("SIGTERM to what left its group, too: "), "{text}");
    }
}

#[tokio::test]
async fn what_left_the_group_and_ignores_the_signal_is_killed() {
    let mut bench = bench_with(&[], Duration::from_millis(100));
    let handle = bench.cancel.take().unwrap();
    let spec =
        sh("setsid sh -c 'trap \"\" TERM; echo $$ > pid; while :; do sleep 1000; done' & wait");
    let (result, ()) = tokio::join!(bench.host.run(spec), async {
        bench.line_in("pid").await;
        handle.cancel();
    });
    assert!(result.unwrap_err().to_string().contains("SIGKILL"));
    until_gone(&bench.line_in("pid").await).await;
}

#[tokio::test]
async fn another_process_of_the_same_host_is_left_alone() {
    let bench = bench();
    let mut first = sh("setsid sh -c 'echo $$ > first; sleep 1000' & wait");
    first.timeout = Some(Duration::from_millis(300));
    let second = sh(
        "setsid sh -c 'echo $$ > second; sleep 1000' & while ! [ -e end ]; do sleep 0.1; done; kill $(cat second)",
    );
    let (ended, went_on) = tokio::join!(
        async {
            let ended = bench.host.run(first).await;
            let second = bench.line_in("second").await;
            let lives = alive(&second);
            std::fs::write(bench.folder.path().join("end"), "").unwrap();
            (ended, lives)
        },
        bench.host.run(second)
    );
    assert!(matches!(ended.0, Err(ProcessError::TimedOut { .. })));
    assert!(ended.1, "what another process started was ended with this one's");
    assert!(went_on.unwrap().success());
}
