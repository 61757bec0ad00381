// @tus/server over @tus/s3-store as in its documentation, without the checksums that S3 does not require.
import { S3Store } from "@tus/s3-store";
import { Server } from "@tus/server";

const { PORT, BUCKET, S3_URL, AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_REGION } = process.env;

const datastore = new S3Store({
  s3ClientConfig: {
    bucket: BUCKET,
    region: AWS_REGION,
    endpoint: S3_URL,
    forcePathStyle: true,
    requestChecksumCalculation: "WHEN_REQUIRED",
    credentials: { accessKeyId: AWS_ACCESS_KEY_ID, secretAccessKey: AWS_SECRET_ACCESS_KEY },
  },
});
new Server({ path: "/files", datastore }).listen({ host: "127.0.0.1", port: Number(PORT) });
