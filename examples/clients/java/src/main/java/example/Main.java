package example;

import io.github.datas3t.v1.DatarangeServiceGrpc;
import io.github.datas3t.v1.PresignDatarangesRequest;
import io.github.datas3t.v1.PresignedDatarange;
import io.grpc.ManagedChannel;
import io.grpc.ManagedChannelBuilder;
import java.io.IOException;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.nio.ByteBuffer;

/**
 * Prints one datapoint: the catalogue comes from the server by gRPC, the bytes straight from S3.
 *
 * <pre>mvn -q compile
 * java -cp "target/classes:target/dependency/*" example.Main localhost:8765 photos 42</pre>
 */
public final class Main {
  private static final HttpClient S3 = HttpClient.newHttpClient();

  public static void main(String[] arguments) throws IOException, InterruptedException {
    String name = arguments[1];
    long key = Long.parseLong(arguments[2]);
    ManagedChannel channel = ManagedChannelBuilder.forTarget(arguments[0]).usePlaintext().build();
    try {
      // One call answers where the keys are, with URLs that serve any range of bytes.
      var found =
          DatarangeServiceGrpc.newBlockingStub(channel)
              .presignDataranges(
                  PresignDatarangesRequest.newBuilder()
                      .setDatas3TName(name)
                      .setFirstDatapoint(key)
                      .setLastDatapoint(key)
                      .build());
      if (found.getDatarangesCount() == 0) {
        throw new IllegalArgumentException(name + " has no datapoint " + key);
      }
      System.out.write(content(found.getDataranges(0), key));
      System.out.flush();
    } finally {
      channel.shutdownNow();
    }
  }

  /** Returns the content of a datapoint. The index has 16 bytes for each (docs/format.md, "Index"). */
  private static byte[] content(PresignedDatarange datarange, long key)
      throws IOException, InterruptedException {
    long at = 16 * (key - datarange.getMinDatapointKey());
    ByteBuffer record = ByteBuffer.wrap(get(datarange.getPresignedIndexUrl(), at, 16));
    long position = record.getLong(0);
    long headerBlocks = Short.toUnsignedLong(record.getShort(8));
    long size = Short.toUnsignedLong(record.getShort(10)) << 32 | Integer.toUnsignedLong(record.getInt(12));
    return size == 0 ? new byte[0] : get(datarange.getPresignedDataUrl(), position + 512 * headerBlocks, size);
  }

  private static byte[] get(String url, long start, long size) throws IOException, InterruptedException {
    var request =
        HttpRequest.newBuilder(URI.create(url)).header("Range", "bytes=" + start + "-" + (start + size - 1)).build();
    var response = S3.send(request, HttpResponse.BodyHandlers.ofByteArray());
    if (response.statusCode() != 206 || response.body().length != size) {
      throw new IOException("S3 responded " + response.statusCode() + " with " + response.body().length + " bytes");
    }
    return response.body();
  }
}
