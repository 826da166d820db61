//! The same without a runtime: every method may block its thread, and none needs tokio.
//!
//! ```
//! use homa_transport::blocking::Endpoint;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let server = Endpoint::bind("127.0.0.1:0")?;
//! let address = server.local_addr();
//! std::thread::spawn(move || {
//!     while let Ok(Some(request)) = server.accept() {
//!         let answer = request.body().clone();
//!         let _ = request.reply(answer);
//!     }
//! });
//!
//! let client = Endpoint::client()?;
//! assert_eq!(client.call(address, "hello")?, "hello");
//! # Ok(()) }
//! ```

mod call;
mod call_set;
mod endpoint;
mod request;
mod stream;

pub use call::{Call, PendingResponse};
pub use call_set::{CallId, CallSet};
pub use endpoint::Endpoint;
pub use request::{Request, RequestStream, Responder};
pub use stream::{BodySender, ResponseStream};
