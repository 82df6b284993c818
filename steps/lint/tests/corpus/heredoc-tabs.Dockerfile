FROM debian:12
RUN <<-"END" bash -e
	cd /tmp
	END
RUN sudo ls
