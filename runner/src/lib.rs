//! The runner: the command line, the settings, the list of built-in steps, and the composition of
//! every other crate. No stable API but [`App`].
//!
//! Whoever has steps of their own builds their own `fairlead`:
//!
//! ```no_run
//! # use fairlead_step::{Capability, Effect, StepContext, StepError, StepKind, Verdict};
//! # struct Ours;
//! # #[derive(serde::Deserialize, schemars::JsonSchema)] struct Input {}
//! # #[derive(serde::Serialize, schemars::JsonSchema)] struct Output {}
//! # impl StepKind for Ours {
//! #     const KIND: &'static str = "ours";
//! #     const SUMMARY: &'static str = "does what we need";
//! #     const EFFECT: Effect = Effect::Pure;
//! #     const CAPABILITIES: &'static [Capability] = &[];
//! #     type Input = Input;
//! #     type Output = Output;
//! #     async fn run(&self, _: Input, _: &StepContext) -> Result<Verdict<Output>, StepError> {
//! #         Ok(Verdict::passed(Output {}))
//! #     }
//! # }
//! fn main() -> std::process::ExitCode {
//!     fairlead::App::with_built_in_steps().step(|_| Ours).main()
//! }
//! ```

mod app;
mod cli;
mod client;
mod commands;
mod couriers;
mod exit;
mod forges;
mod issuers;
mod live;
mod load;
mod output;
mod projects;
mod registries;
mod report;
mod sealed;
mod secrets;
mod settings;
mod telemetry;
mod workspaces;

pub use app::App;
pub use exit::Exit;
pub use settings::Settings;
