from debian:12 as x
run apt-get update && apt-get install curl
cmd foo
