FROM debian:12
RUN cd /tmp && echo hello
RUN (cd /tmp && make)
RUN sudo apt-get update
RUN service nginx start
RUN echo x && sudo -E ls
RUN ps aux | grep x
RUN mount /dev/sda /mnt
RUN ssh host
RUN top
RUN cd
RUN vim /etc/hosts
