// Uppy Companion as in its documentation, without its metrics: it signs for S3 and imports from URLs.
import * as companion from "@uppy/companion";
import bodyParser from "body-parser";
import express from "express";
import session from "express-session";

const { PORT, BUCKET, S3_URL, AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_REGION, FILES } = process.env;
const secret = "a secret for measurements only";

const app = express();
app.use(bodyParser.json());
app.use(session({ secret, resave: false, saveUninitialized: false }));
const { app: companionApp } = companion.app({
  s3: {
    key: AWS_ACCESS_KEY_ID,
    secret: AWS_SECRET_ACCESS_KEY,
    bucket: BUCKET,
    region: AWS_REGION,
    endpoint: S3_URL,
    forcePathStyle: true,
    expires: 900,
    getKey: ({ filename }) => filename,
  },
  server: { host: `127.0.0.1:${PORT}`, protocol: "http" },
  filePath: FILES,
  secret,
  uploadUrls: [S3_URL],
  corsOrigins: true,
  metrics: false,
  enableUrlEndpoint: true,
  allowLocalUrls: true,
  streamingUpload: true,
});
app.use(companionApp);
companion.socket(app.listen(Number(PORT), "127.0.0.1"));
