//! Compiles the protos with protox, so that no protoc is needed.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let includes = ["../../../proto", "../../../third_party/googleapis"];
    let files = protox::compile(["datas3t/v1/datarange.proto"], includes)?;
    tonic_prost_build::configure().build_server(false).compile_fds(files)?;
    Ok(())
}
