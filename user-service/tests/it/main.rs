//! The user service from outside, on both engines.

mod support;

mod creation;
mod deletion;
mod etags;
mod grpc;
mod outage;
mod pages;
mod parity;
mod rest;
mod settings;
mod store;
