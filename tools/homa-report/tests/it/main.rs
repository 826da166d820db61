//! Tests of reports: from run directories to pages and text.

mod browser;
mod harness;
mod pages;
mod text;
