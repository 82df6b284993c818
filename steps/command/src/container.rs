//! A program in a container: created, watched and removed through the Docker API.
//!
//! The container's name follows from the run and the step, so an attempt finds and removes what an
//! earlier, lost attempt left behind. Whatever ends the step, the container goes with it.

use bollard::Docker;
use bollard::container::{AttachContainerResults, LogOutput};
use bollard::errors::Error;
use bollard::models::{ContainerCreateBody, HostConfig, Mount, MountType};
use bollard::query_parameters::{
    AttachContainerOptionsBuilder, CreateContainerOptionsBuilder, ListContainersOptionsBuilder,
    RemoveContainerOptionsBuilder, StopContainerOptionsBuilder, WaitContainerOptions,
};
use fairlead_step::{
    Confinement, Digest, EngineAddress, ErrorClass, LineSplitter, ProcessError, RunInfo,
    StepContext, StepError, Stopped, Stream,
};
use futures::StreamExt as _;
use std::collections::{BTreeSet, HashMap};
use tokio::io::AsyncWriteExt as _;

use crate::engine::{connect, ensure_image, failed, is_missing};
use crate::verdict::{last_line, too_much};
use crate::{CAPTURE_LIMIT, Container, Ended, Input};

/// Where the workspace is mounted.
const WORKSPACE: &str = "/workspace";

/// The label by which an attempt finds the containers of earlier ones.
const KEY_LABEL: &str = "dev.fairlead.key";

/// How `/tmp` is mounted where the image cannot be written to. What is in it counts as the container's
/// memory.
const TMPFS: &str = "rw,nosuid,nodev,mode=1777";

/// How long a container has between `SIGTERM` and `SIGKILL`, in seconds.
const GRACE_SECONDS: i32 = 5;

/// The exit code of a container whose processes were killed: 128 and the number of `SIGKILL`.
const KILLED: i64 = 137;

/// The most bytes of a line that reach the log, which masks and then cuts it further.
const LINE_LIMIT: usize = 64 * 1024;

/// Runs the program in its container, to its end.
pub(crate) async fn run(
    engine: &EngineAddress,
    input: &Input,
    container: &Container,
    context: &StepContext,
) -> Result<Ended, StepError> {
    let docker = context.cancel().guard(connect(engine)).await?;
    let pulled = ensure_image(&docker, &container.image, context);
    let image_user = context.cancel().guard(pulled).await?;
    remove_earlier(&docker, context).await?;
    let user = user(container, image_user.as_deref(), context.confinement());
    let body = body(input, container, user, context)?;
    let options = CreateContainerOptionsBuilder::new().name(&name(context.info())).build();
    let created = docker.create_container(Some(options), body).await;
    let id = created.map_err(|error| failed("create the container", error))?.id;
    let guard = Guard { docker: docker.clone(), id: Some(id.clone()) };
    let ended = match context.cancel().guard(watch(&docker, &id, input, context)).await {
        Ok(ended) => Ok(ended),
        Err(error) => {
            let stopped = stop(&docker, &id, context).await;
            Err(match (error.class(), stopped) {
                (ErrorClass::Cancelled, Some(stopped)) => {
                    ProcessError::Cancelled { program: input.program.clone(), stopped }.into()
                }
                _ => error,
            })
        }
    };
    guard.remove().await;
    ended
}

/// Stops the container, and answers what it took, where the engine says.
async fn stop(docker: &Docker, id: &str, context: &StepContext) -> Option<Stopped> {
    context.say("stopping the container");
    let options = StopContainerOptionsBuilder::new().signal("SIGTERM").t(GRACE_SECONDS).build();
    // Removing it, next, ends it in any case.
    docker.stop_container(id, Some(options)).await.ok()?;
    let state = docker.inspect_container(id, None).await.ok()?.state?;
    let killed = state.exit_code == Some(KILLED);
    Some(if killed { Stopped::Killed } else { Stopped::Terminated })
}

/// The most characters of a step's name that stand in the name of its container.
const NAMED: usize = 64;

/// The name of the container of this step in this run. A step that was made for an item, such as
/// `scan[web]`, has a name that no container may have; what is lost of it is told apart by a hash.
fn name(info: &RunInfo) -> String {
    let step = info.step.to_string();
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
    if step.len() <= NAMED && step.chars().all(fits) {
        return format!("fairlead-{}-{step}", info.run);
    }
    let words: Vec<&str> = step.split(|c| !fits(c)).filter(|word| !word.is_empty()).collect();
    let readable: String = words.join("-").chars().take(NAMED).collect();
    let hash = Digest::sha256(step.as_bytes());
    format!("fairlead-{}-{readable}-{}", info.run, &hash.hex()[..8])
}

/// What the engine is asked to create.
fn body(
    input: &Input,
    container: &Container,
    user: Option<&str>,
    context: &StepContext,
) -> Result<ContainerCreateBody, StepError> {
    let info = context.info();
    let plain = input.env.iter().map(|(name, value)| format!("{name}={value}"));
    let secret = input.secret_env.iter().map(|(name, value)| format!("{name}={}", value.expose()));
    let labels = [
        (KEY_LABEL, info.idempotency_key()),
        ("dev.fairlead.run", info.run.to_string()),
        ("dev.fairlead.pipeline", info.pipeline.clone()),
        ("dev.fairlead.step", info.step.to_string()),
        ("dev.fairlead.attempt", info.attempt.to_string()),
    ];
    let mounts = if container.mount {
        let source = std::path::absolute(context.workspace()).map_err(|error| {
            StepError::terminal("the workspace has no absolute path").because(error)
        })?;
        Some(vec![Mount {
            typ: Some(MountType::BIND),
            source: Some(source.to_string_lossy().into_owned()),
            target: Some(WORKSPACE.to_owned()),
            ..Mount::default()
        }])
    } else {
        None
    };
    let folder = match &input.cwd {
        Some(cwd) => format!("{WORKSPACE}/{cwd}"),
        None => WORKSPACE.to_owned(),
    };
    let confinement = context.confinement();
    Ok(ContainerCreateBody {
        image: Some(container.image.to_string()),
        entrypoint: Some(vec![input.program.clone()]),
        cmd: Some(input.args.clone()),
        env: Some(plain.chain(secret).collect()),
        working_dir: container.mount.then_some(folder),
        user: user.map(str::to_owned),
        labels: Some(labels.map(|(name, value)| (name.to_owned(), value)).into()),
        attach_stdin: Some(input.stdin.is_some()),
        open_stdin: Some(input.stdin.is_some()),
        stdin_once: Some(input.stdin.is_some()),
        attach_stdout: Some(true),
        attach_stderr: Some(true),
        tty: Some(false),
        host_config: Some(HostConfig { mounts, ..host_config(container, confinement) }),
        ..ContainerCreateBody::default()
    })
}

/// Whether a user of a container is its root.
pub(crate) fn is_root(user: &str) -> bool {
    let name = user.split(':').next().unwrap_or_default();
    name == "root" || name.parse() == Ok(0_u32)
}

/// The user that the container is created with: the step's own, or the one that is asked of containers
/// whose image names none but root. None leaves it to the image.
fn user<'a>(
    container: &'a Container,
    of_image: Option<&str>,
    confinement: &'a Confinement,
) -> Option<&'a str> {
    let own = container.user.as_deref();
    let asked = confinement.user.as_deref().filter(|_| of_image.is_none_or(is_root));
    own.or(asked)
}

/// How the container is shut in, and what it may use.
fn host_config(container: &Container, confinement: &Confinement) -> HostConfig {
    let limits = &confinement.limits;
    let memory = limits.memory.map(|memory| i64::try_from(memory.0).unwrap_or(i64::MAX));
    let nanos = |millis: u64| i64::try_from(millis.saturating_mul(1_000_000)).unwrap_or(i64::MAX);
    let given: BTreeSet<&String> =
        confinement.capabilities.iter().chain(&container.capabilities).collect();
    let read_only = container.read_only || confinement.read_only;
    HostConfig {
        network_mode: container.network.clone(),
        memory,
        // The same number: no swap besides, which would only put off what the limit is for.
        memory_swap: memory,
        nano_cpus: limits.cpu_millis.map(nanos),
        pids_limit: limits.pids.map(i64::from),
        cap_drop: confinement.restricted.then(|| vec!["ALL".to_owned()]),
        cap_add: (!given.is_empty()).then(|| given.into_iter().cloned().collect()),
        security_opt: confinement.restricted.then(|| vec!["no-new-privileges".to_owned()]),
        readonly_rootfs: read_only.then_some(true),
        tmpfs: read_only.then(|| HashMap::from([("/tmp".to_owned(), TMPFS.to_owned())])),
        // Somebody must reap the program's orphans and hand it the signals.
        init: Some(true),
        ..HostConfig::default()
    }
}

/// Removes what earlier attempts of this step in this run left behind.
async fn remove_earlier(docker: &Docker, context: &StepContext) -> Result<(), StepError> {
    let label = format!("{KEY_LABEL}={}", context.info().idempotency_key());
    let filters = HashMap::from([("label", vec![label])]);
    let options = ListContainersOptionsBuilder::new().all(true).filters(&filters).build();
    let found = docker.list_containers(Some(options)).await;
    for earlier in found.map_err(|error| failed("list its containers", error))? {
        let Some(id) = earlier.id else { continue };
        context.say("removing the container of an earlier attempt");
        remove(docker, &id).await.map_err(|error| failed("remove a container", error))?;
    }
    Ok(())
}

async fn remove(docker: &Docker, id: &str) -> Result<(), Error> {
    let options = RemoveContainerOptionsBuilder::new().force(true).v(true).build();
    match docker.remove_container(id, Some(options)).await {
        Err(error) if !is_missing(&error) => Err(error),
        _ => Ok(()),
    }
}

/// Starts the container and stays with it until it ends.
async fn watch(
    docker: &Docker,
    id: &str,
    input: &Input,
    context: &StepContext,
) -> Result<Ended, StepError> {
    let with_stdin = input.stdin.is_some();
    let options = AttachContainerOptionsBuilder::new()
        .stream(true)
        .stdin(with_stdin)
        .stdout(true)
        .stderr(true)
        .build();
    // Attached before it starts, nothing that it writes is missed.
    let attached = docker.attach_container(id, Some(options)).await;
    let AttachContainerResults { mut output, input: mut stdin } =
        attached.map_err(|error| failed("attach to the container", error))?;
    docker.start_container(id, None).await.map_err(|error| start_failed(input, error))?;

    let feed = async {
        if let Some(text) = &input.stdin {
            // A program that reads no more of its input is free to do so.
            let _ = stdin.write_all(text.as_bytes()).await;
            let _ = stdin.shutdown().await;
        }
    };
    let read = async {
        let mut sink = Sink::new(input, context);
        while let Some(part) = output.next().await {
            sink.take(part.map_err(|error| failed("hand on the container's output", error))?)?;
            if let Some(room) = context.log().room() {
                room.await;
            }
        }
        Ok::<_, StepError>(sink.finish())
    };
    let ((), read) = futures::join!(feed, read);
    let (stdout, last_error_line) = read?;

    let code = exit_code(docker, id).await?;
    let state = docker.inspect_container(id, None).await.ok().and_then(|found| found.state);
    let out_of_memory = state.and_then(|state| state.oom_killed).unwrap_or(false);
    let memory_limit = context.confinement().limits.memory;
    Ok(Ended {
        code: Some(code),
        signal: None,
        stdout,
        last_error_line,
        out_of_memory,
        memory_limit,
    })
}

async fn exit_code(docker: &Docker, id: &str) -> Result<i32, StepError> {
    let mut wait = std::pin::pin!(docker.wait_container(id, None::<WaitContainerOptions>));
    let code = match wait.next().await {
        Some(Ok(ended)) => ended.status_code,
        Some(Err(Error::DockerContainerWaitError { code, .. })) => code,
        Some(Err(error)) => return Err(failed("wait for the container", error)),
        None => return Err(StepError::retryable("the engine did not say how the container ended")),
    };
    Ok(i32::try_from(code).unwrap_or(i32::MAX))
}

fn start_failed(input: &Input, error: Error) -> StepError {
    let text = error.to_string();
    if text.contains("executable file not found") || text.contains("no such file or directory") {
        return StepError::terminal(format!(
            "there is no program `{}` in the image",
            input.program
        ))
        .because(error)
        .hint("name a program that is in the image; its own entry point is not run");
    }
    failed("start the container", error)
}

/// Where the output of a container goes.
struct Sink<'a> {
    input: &'a Input,
    context: &'a StepContext,
    captured: Vec<u8>,
    stdout: LineSplitter,
    stderr: LineSplitter,
    last_error_line: Option<String>,
}

impl<'a> Sink<'a> {
    const fn new(input: &'a Input, context: &'a StepContext) -> Self {
        Self {
            input,
            context,
            captured: Vec::new(),
            stdout: LineSplitter::new(LINE_LIMIT),
            stderr: LineSplitter::new(LINE_LIMIT),
            last_error_line: None,
        }
    }

    fn take(&mut self, part: LogOutput) -> Result<(), StepError> {
        let log = self.context.log();
        match part {
            LogOutput::StdErr { message } => {
                let last = &mut self.last_error_line;
                self.stderr.push(&message, |line| {
                    log.line(Stream::Stderr, line);
                    *last = last_line(line).or_else(|| last.take());
                });
            }
            LogOutput::StdOut { message } | LogOutput::Console { message } => {
                if self.input.capture.is_none() {
                    self.stdout.push(&message, |line| log.line(Stream::Stdout, line));
                } else if self.captured.len() + message.len() > CAPTURE_LIMIT {
                    return Err(too_much(&self.input.program));
                } else {
                    self.captured.extend_from_slice(&message);
                }
            }
            // The engine does not send back what it is fed.
            LogOutput::StdIn { .. } => {}
        }
        Ok(())
    }

    fn finish(mut self) -> (Vec<u8>, Option<String>) {
        let log = self.context.log();
        let last = &mut self.last_error_line;
        self.stdout.finish(|line| log.line(Stream::Stdout, line));
        self.stderr.finish(|line| {
            log.line(Stream::Stderr, line);
            *last = last_line(line).or_else(|| last.take());
        });
        (self.captured, self.last_error_line)
    }
}

/// Removes its container when it goes, also when the step is dropped.
struct Guard {
    docker: Docker,
    id: Option<String>,
}

impl Guard {
    async fn remove(mut self) {
        if let Some(id) = &self.id {
            // Should it fail, the next attempt or a person finds the container by its label.
            let _ = remove(&self.docker, id).await;
        }
        self.id = None;
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        let (Some(id), Ok(runtime)) = (self.id.take(), tokio::runtime::Handle::try_current())
        else {
            return;
        };
        let docker = self.docker.clone();
        runtime.spawn(async move {
            let _ = remove(&docker, &id).await;
        });
    }
}

#[cfg(test)]
mod tests {
    use fairlead_step::kit::TestHost;
    use fairlead_step::{ByteSize, Limits, erase};
    use serde_json::json;

    use super::*;
    use crate::Command;

    fn body_of(with: serde_json::Value) -> serde_json::Value {
        body_in(with, Confinement::default())
    }

    fn body_in(with: serde_json::Value, confinement: Confinement) -> serde_json::Value {
        let input: Input = serde_json::from_value(with).unwrap();
        let container = input.container.clone().unwrap();
        let host = TestHost::new().with_confinement(confinement);
        let step = erase(Command::new("unix:///nowhere".parse().unwrap()));
        let (context, _handle) = host.context(&*step, 2);
        let user = user(&container, None, context.confinement());
        let body = serde_json::to_value(body(&input, &container, user, &context).unwrap()).unwrap();
        let text = body.to_string();
        let workspace = host.workspace().to_string_lossy();
        let run = context.info().run.to_string();
        serde_json::from_str(&text.replace(&*workspace, "<workspace>").replace(&run, "<run>"))
            .unwrap()
    }

    #[test]
    fn the_workspace_is_mounted_and_the_step_is_on_the_labels() {
        let body = body_of(json!({
            "program": "npm", "args": ["ci"], "cwd": "web", "stdin": "y\n",
            "env": { "CI": "1" }, "secret_env": { "TOKEN": "s" },
            "container": { "image": "docker.io/library/node:22", "network": "none", "user": "1000" },
        }));
        insta::assert_json_snapshot!(body, @r#"
        {
          "AttachStderr": true,
          "AttachStdin": true,
          "AttachStdout": true,
          "Cmd": [
            "ci"
          ],
          "Entrypoint": [
            "npm"
          ],
          "Env": [
            "CI=1",
            "TOKEN=s"
          ],
          "HostConfig": {
            "Init": true,
            "Mounts": [
              {
                "Source": "<workspace>",
                "Target": "/workspace",
                "Type": "bind"
              }
            ],
            "NetworkMode": "none"
          },
          "Image": "docker.io/library/node:22",
          "Labels": {
            "dev.fairlead.attempt": "2",
            "dev.fairlead.key": "<run>/step",
            "dev.fairlead.pipeline": "test",
            "dev.fairlead.run": "<run>",
            "dev.fairlead.step": "step"
          },
          "OpenStdin": true,
          "StdinOnce": true,
          "Tty": false,
          "User": "1000",
          "WorkingDir": "/workspace/web"
        }
        "#);
    }

    #[test]
    fn a_container_is_shut_in_as_its_host_says() {
        let confinement = Confinement {
            limits: Limits {
                memory: Some(ByteSize(64 << 20)),
                cpu_millis: Some(1500),
                pids: Some(100),
            },
            restricted: true,
            capabilities: vec!["CHOWN".to_owned()],
            user: Some("1000:1000".to_owned()),
            read_only: true,
        };
        let body = body_in(
            json!({
                "program": "true",
                "container": { "image": "localhost/x", "capabilities": ["NET_RAW", "CHOWN"], "network": "none" },
            }),
            confinement.clone(),
        );
        assert_eq!(body["User"], "1000:1000");
        let mut host = body["HostConfig"].clone();
        host.as_object_mut().unwrap().remove("Mounts");
        insta::assert_json_snapshot!(host, @r#"
        {
          "CapAdd": [
            "CHOWN",
            "NET_RAW"
          ],
          "CapDrop": [
            "ALL"
          ],
          "Init": true,
          "Memory": 67108864,
          "MemorySwap": 67108864,
          "NanoCpus": 1500000000,
          "NetworkMode": "none",
          "PidsLimit": 100,
          "ReadonlyRootfs": true,
          "SecurityOpt": [
            "no-new-privileges"
          ],
          "Tmpfs": {
            "/tmp": "rw,nosuid,nodev,mode=1777"
          }
        }
        "#);
        let named = |own: Option<&str>, image: Option<&str>| {
            let container = Container {
                image: "localhost/x:1".parse().unwrap(),
                network: None,
                user: own.map(str::to_owned),
                capabilities: BTreeSet::new(),
                read_only: false,
                mount: true,
            };
            user(&container, image, &confinement).map(str::to_owned)
        };
        assert_eq!(named(None, None).as_deref(), Some("1000:1000"));
        assert_eq!(named(None, Some("root:wheel")).as_deref(), Some("1000:1000"));
        assert_eq!(named(None, Some("node")), None);
        assert_eq!(named(Some("7"), None).as_deref(), Some("7"));
    }

    #[test]
    fn the_container_of_an_item_has_a_name_that_engines_take() {
        let host = TestHost::new();
        let step = erase(Command::new("unix:///nowhere".parse().unwrap()));
        let (context, _handle) = host.context(&*step, 1);
        let named = |step: &str| {
            let info = RunInfo { step: step.parse().unwrap(), ..context.info().clone() };
            name(&info).replace(&format!("fairlead-{}-", info.run), "")
        };
        assert_eq!(named("scan"), "scan");
        let (web, web2) = (named("scan[web]"), named("scan[-web]"));
        assert!(web.starts_with("scan-web-") && web.len() == 17, "{web}");
        assert_ne!(web, web2);
        for step in ["scan[.web-]", &format!("scan[{}]", "x".repeat(63)), "scan[__]"] {
            let name = named(step);
            // What Docker takes: [a-zA-Z0-9][a-zA-Z0-9_.-]+
            assert!(name.chars().all(|c| c.is_ascii_alphanumeric() || "_.-".contains(c)), "{name}");
            assert!(name.len() < 80, "{name}");
        }
    }

    #[test]
    fn without_the_workspace_the_image_says_where_it_runs() {
        let body = body_of(json!({
            "program": "true", "container": { "image": "localhost/x", "mount": false },
        }));
        assert_eq!(body.get("WorkingDir"), None);
        assert_eq!(body["HostConfig"].get("Mounts"), None);
        assert_eq!(body["OpenStdin"], false);
    }
}
