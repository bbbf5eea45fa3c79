//! Mail: what people are told, in which words, and how it leaves the house.

mod links;
mod message;
mod server;
mod templates;
mod transport;

pub use self::{
    links::{Links, Page, page_url, public_url},
    message::{Kind, Message, Rendered},
    server::{Security, SmtpServer},
    templates::{TemplateError, Templates},
    transport::{Failure, FailureKind, Sender, Transport, sender_address},
};
