DROP TABLE join_requests, join_tokens;
