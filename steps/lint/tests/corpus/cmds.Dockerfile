FROM debian:12
CMD a b
CMD ["c"]
ENTRYPOINT foo
ENTRYPOINT ["bar"]
FROM debian:12
CMD ["d"]
ENTRYPOINT exec top -b
