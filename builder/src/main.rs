//! The command `vambrace`.

fn main() -> std::process::ExitCode {
    vambrace::cli::main()
}
