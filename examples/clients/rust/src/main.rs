//! Prints one datapoint: the catalogue comes from the server by gRPC, the bytes straight from S3.
//!
//!     cargo run -- http://localhost:8765 photos 42

use std::error::Error;
use std::io::Write;

#[allow(dead_code)] // the program uses one of the services
mod datas3t {
    pub mod v1 {
        tonic::include_proto!("datas3t.v1");
    }
}
use datas3t::v1::datarange_service_client::DatarangeServiceClient;
use datas3t::v1::PresignDatarangesRequest;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [server, name, key] = arguments.as_slice() else {
        return Err("usage: datas3t-client SERVER NAME KEY".into());
    };
    let key: u64 = key.parse()?;

    // One call answers where the keys are, with URLs that serve any range of bytes.
    let mut client = DatarangeServiceClient::connect(server.clone()).await?;
    let request = PresignDatarangesRequest {
        datas3t_name: name.clone(),
        first_datapoint: Some(key),
        last_datapoint: Some(key),
        ..Default::default()
    };
    let found = client.presign_dataranges(request).await?.into_inner();
    let datarange = found.dataranges.first().ok_or(format!("{name} has no datapoint {key}"))?;

    // The index has 16 bytes for each datapoint (docs/format.md, "Index").
    let record = get(&datarange.presigned_index_url, 16 * (key - datarange.min_datapoint_key), 16)?;
    let number = |bytes: &[u8]| bytes.iter().fold(0u64, |value, byte| value << 8 | u64::from(*byte));
    let (position, header_blocks, size) = (number(&record[..8]), number(&record[8..10]), number(&record[10..]));
    if size > 0 {
        let content = get(&datarange.presigned_data_url, position + 512 * header_blocks, size)?;
        std::io::stdout().write_all(&content)?;
    }
    Ok(())
}

fn get(url: &str, start: u64, size: u64) -> Result<Vec<u8>, Box<dyn Error>> {
    let range = format!("bytes={}-{}", start, start + size - 1);
    let mut response = ureq::get(url).header("Range", range).call()?;
    let body = response.body_mut().with_config().limit(size + 1).read_to_vec()?;
    if response.status() != 206 || body.len() as u64 != size {
        return Err(format!("S3 responded {} with {} bytes", response.status(), body.len()).into());
    }
    Ok(body)
}
