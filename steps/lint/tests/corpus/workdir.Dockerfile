FROM debian:12
WORKDIR relative
WORKDIR /absolute
WORKDIR $VAR
WORKDIR ${VAR}/x
WORKDIR "/quoted"
WORKDIR C:\\x
WORKDIR "rel"
