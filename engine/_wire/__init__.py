"""Our own thin HTTP/1.1 client and SigV4. No AWS SDK in here, no verb of S3."""
