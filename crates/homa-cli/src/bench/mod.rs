//! temp
pub(crate) mod server {
    pub(crate) fn run(_: &str) -> Result<(), crate::error::CliError> {
        Ok(())
    }
}
pub(crate) mod client {
    pub(crate) fn run(_: &str) -> Result<(), crate::error::CliError> {
        Ok(())
    }
}
pub(crate) fn run(_: &crate::args::BenchArgs, _: bool) -> Result<(), crate::error::CliError> {
    Ok(())
}
