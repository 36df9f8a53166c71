use {brooklet as _, fjall as _, kafko as _, okaywal as _, redb as _, rusqlite as _, tempfile as _, tokio as _, walrus_rust as _, bytes as _};
fn main(){}
