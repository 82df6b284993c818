FROM node:20
RUN yarn install
RUN yarn install && yarn cache clean
RUN --mount=type=cache,target=/usr/local/share/.cache/yarn yarn install
RUN yarn --frozen-lockfile install
RUN yarn
