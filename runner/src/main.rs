//! The `fairlead` program.

fn main() -> std::process::ExitCode {
    fairlead::App::with_built_in_steps().main()
}
