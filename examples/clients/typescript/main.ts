// Prints one datapoint: the catalogue comes from the server by gRPC, the bytes straight from S3.
//
//   npm install && npm run types && npm start localhost:8765 photos 42
import { fileURLToPath } from "node:url";
import * as grpc from "@grpc/grpc-js";
import { loadSync } from "@grpc/proto-loader";
import type { ProtoGrpcType } from "./gen/datarange";
import type { PresignDatarangesResponse__Output } from "./gen/datas3t/v1/PresignDatarangesResponse";

const root = fileURLToPath(new URL("../../..", import.meta.url));
const definition = loadSync("datas3t/v1/datarange.proto", {
  includeDirs: [`${root}/proto`, `${root}/third_party/googleapis`],
  keepCase: true,
  longs: String, // 64-bit integers do not fit a number
});
const v1 = (grpc.loadPackageDefinition(definition) as unknown as ProtoGrpcType).datas3t.v1;

const [server, name, keyText] = process.argv.slice(2);
const key = BigInt(keyText);
const client = new v1.DatarangeService(server, grpc.credentials.createInsecure());

// One call answers where the keys are, with URLs that serve any range of bytes.
const found = await new Promise<PresignDatarangesResponse__Output>((resolve, reject) => {
  const request = { datas3t_name: name, first_datapoint: keyText, last_datapoint: keyText };
  client.PresignDataranges(request, (error, response) => (error ? reject(error) : resolve(response!)));
});
client.close();
const datarange = found.dataranges?.[0];
if (!datarange) throw new Error(`${name} has no datapoint ${key}`);

// The index has 16 bytes for each datapoint (docs/format.md, "Index").
const at = 16n * (key - BigInt(datarange.min_datapoint_key!));
const record = await get(datarange.presigned_index_url!, at, 16n);
const position = record.readBigUInt64BE(0);
const headerBlocks = BigInt(record.readUInt16BE(8));
const size = BigInt(record.readUIntBE(10, 6));
if (size > 0n) process.stdout.write(await get(datarange.presigned_data_url!, position + 512n * headerBlocks, size));

async function get(url: string, start: bigint, size: bigint): Promise<Buffer> {
  const response = await fetch(url, { headers: { Range: `bytes=${start}-${start + size - 1n}` } });
  const body = Buffer.from(await response.arrayBuffer());
  if (response.status !== 206 || BigInt(body.length) !== size) {
    throw new Error(`S3 responded ${response.status} with ${body.length} bytes`);
  }
  return body;
}
