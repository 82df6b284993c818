FROM ruby:3.3
RUN gem install bundler
RUN gem install bundler:2.5.0 rails -v 7
RUN gem install bundler -v 2.5
RUN gem install rails:7 puma
RUN gem install --version 1 puma
