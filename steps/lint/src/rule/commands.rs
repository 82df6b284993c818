//! The rules about what `RUN` does: `02` about packages, `03` about the rest.

use super::Rule;
use super::Severity::{Error, Info, Warning};

pub(crate) const APT_PIN: Rule = Rule::new(
    "FLD0201",
    "DL3008",
    Warning,
    "`apt-get install` without versions",
    "the same file installs something else later",
    "write `package=version`, or install from a snapshot of the archive",
);
pub(crate) const APT_LISTS: Rule = Rule::new(
    "FLD0202",
    "DL3009",
    Info,
    "lists of packages left behind by `apt-get`",
    "they are 20 to 50 MB in the layer, and old a day later",
    "end the `RUN` with `rm -rf /var/lib/apt/lists/*`, or mount a cache there",
)
.mending();
pub(crate) const APT_YES: Rule = Rule::new(
    "FLD0203",
    "DL3014",
    Warning,
    "`apt-get install` that asks",
    "a build has nobody to answer",
    "add `-y`",
)
.mending();
pub(crate) const APT_RECOMMENDS: Rule = Rule::new(
    "FLD0204",
    "DL3015",
    Info,
    "`apt-get install` with recommended packages",
    "packages nobody asked for make the image larger and have advisories of their own",
    "add `--no-install-recommends`",
);
pub(crate) const APT_TOOL: Rule = Rule::new(
    "FLD0205",
    "DL3027",
    Warning,
    "`apt` in a build",
    "it is made for people; its options and output may change",
    "use `apt-get` or `apt-cache`",
)
.mending();
pub(crate) const APT_SPLIT: Rule = Rule::new(
    "FLD0206",
    "",
    Warning,
    "`apt-get update` and `apt-get install` in different `RUN`s",
    "the update is cached, and the install fails or installs old versions months later",
    "write both into one `RUN`, joined by `&&`",
)
.mending();
pub(crate) const UPGRADE: Rule = Rule::new(
    "FLD0207",
    "",
    Info,
    "all packages of the base are upgraded",
    "the image depends on the day of its build, and holds what it replaced in a layer below",
    "take a newer base image",
);
pub(crate) const APK_PIN: Rule = Rule::new(
    "FLD0208",
    "DL3018",
    Warning,
    "`apk add` without versions",
    "the same file installs something else later",
    "write `package=version`",
);
pub(crate) const APK_CACHE: Rule = Rule::new(
    "FLD0209",
    "DL3019",
    Info,
    "`apk add` without `--no-cache`",
    "the index stays in the layer",
    "add `--no-cache`, or mount a cache at /var/cache/apk",
)
.mending();
pub(crate) const PIP_PIN: Rule = Rule::new(
    "FLD0210",
    "DL3013",
    Warning,
    "`pip install` without versions",
    "the same file installs something else later",
    "write `package==version`, or a file of requirements with hashes",
);
pub(crate) const PIP_CACHE: Rule = Rule::new(
    "FLD0211",
    "DL3042",
    Warning,
    "`pip install` keeps its cache",
    "every wheel is in the layer twice",
    "add `--no-cache-dir`, or mount a cache at /root/.cache/pip",
)
.mending();
pub(crate) const NPM_PIN: Rule = Rule::new(
    "FLD0212",
    "DL3016",
    Warning,
    "`npm install` without versions",
    "the same file installs something else later",
    "write `package@version`, or use `npm ci` with a lock file",
);
pub(crate) const GEM_PIN: Rule = Rule::new(
    "FLD0213",
    "DL3028",
    Warning,
    "`gem install` without versions",
    "the same file installs something else later",
    "write `gem:version`, or use a Gemfile.lock",
);
pub(crate) const GO_PIN: Rule = Rule::new(
    "FLD0214",
    "DL3062",
    Warning,
    "`go install` without a version",
    "the same file installs something else later",
    "write `package@version`",
);
pub(crate) const YUM_YES: Rule = Rule::new(
    "FLD0215",
    "DL3030",
    Warning,
    "`yum install` that asks",
    "a build has nobody to answer",
    "add `-y`",
)
.mending();
pub(crate) const YUM_CLEAN: Rule = Rule::new(
    "FLD0216",
    "DL3032",
    Warning,
    "`yum` leaves its cache",
    "it stays in the layer",
    "add `&& yum clean all` to the same `RUN`, or mount a cache at /var/cache/yum",
);
pub(crate) const YUM_PIN: Rule = Rule::new(
    "FLD0217",
    "DL3033",
    Warning,
    "`yum install` without versions",
    "the same file installs something else later",
    "write `package-version`",
);
pub(crate) const ZYPPER_YES: Rule = Rule::new(
    "FLD0218",
    "DL3034",
    Warning,
    "`zypper` that asks",
    "a build has nobody to answer",
    "add `-n`",
)
.mending();
pub(crate) const ZYPPER_DUP: Rule = Rule::new(
    "FLD0219",
    "DL3035",
    Warning,
    "`zypper dist-upgrade`",
    "the image becomes another release than its base says",
    "take a newer base image",
);
pub(crate) const ZYPPER_CLEAN: Rule = Rule::new(
    "FLD0220",
    "DL3036",
    Warning,
    "`zypper` leaves its cache",
    "it stays in the layer",
    "add `&& zypper clean` to the same `RUN`, or mount a cache at /var/cache/zypp",
);
pub(crate) const ZYPPER_PIN: Rule = Rule::new(
    "FLD0221",
    "DL3037",
    Warning,
    "`zypper install` without versions",
    "the same file installs something else later",
    "write `package=version`",
);
pub(crate) const DNF_YES: Rule = Rule::new(
    "FLD0222",
    "DL3038",
    Warning,
    "`dnf install` that asks",
    "a build has nobody to answer",
    "add `-y`",
)
.mending();
pub(crate) const DNF_CLEAN: Rule = Rule::new(
    "FLD0223",
    "DL3040",
    Warning,
    "`dnf` leaves its cache",
    "it stays in the layer",
    "add `&& dnf clean all` to the same `RUN`, or mount a cache at /var/cache/dnf",
);
pub(crate) const DNF_PIN: Rule = Rule::new(
    "FLD0224",
    "DL3041",
    Warning,
    "`dnf install` without versions",
    "the same file installs something else later",
    "write `package-version`",
);
pub(crate) const YARN_CACHE: Rule = Rule::new(
    "FLD0225",
    "DL3060",
    Info,
    "`yarn install` leaves its cache",
    "every package is in the layer twice",
    "add `&& yarn cache clean` to the same `RUN`, or mount a cache",
);
pub(crate) const NPM_CI: Rule = Rule::new(
    "FLD0226",
    "",
    Info,
    "`npm install` where `npm ci` is meant",
    "`npm install` may change what the lock file says",
    "use `npm ci`",
);
pub(crate) const NEEDLESS: Rule = Rule::new(
    "FLD0227",
    "",
    Warning,
    "packages that a container does not need",
    "editors, manuals and remote shells help whoever breaks in, and have advisories of their own",
    "leave them away; debug with an image of its own",
);
pub(crate) const COMPILER: Rule = Rule::new(
    "FLD0228",
    "",
    Warning,
    "a compiler stays in the final image",
    "it is hundreds of megabytes, and a tool for whoever breaks in",
    "compile in a stage of its own and `COPY --from` it, or remove the compiler in the same `RUN`",
);
pub(crate) const POINTLESS: Rule = Rule::new(
    "FLD0301",
    "DL3001",
    Info,
    "a command that means nothing in a build",
    "a build has no terminal, services or mounts",
    "leave it away",
);
pub(crate) const CD: Rule = Rule::new(
    "FLD0302",
    "DL3003",
    Warning,
    "`cd` in `RUN`",
    "the next instruction does not know of it",
    "use `WORKDIR`",
);
pub(crate) const SUDO: Rule = Rule::new(
    "FLD0303",
    "DL3004",
    Error,
    "`sudo` in `RUN`",
    "a build is root already where it may be; in a container sudo has surprising effects",
    "use `USER`, or `gosu` where a program must change its user",
);
pub(crate) const TWO_LOADERS: Rule = Rule::new(
    "FLD0304",
    "DL4001",
    Warning,
    "`wget` and `curl` both",
    "one of them is enough, and is one package less",
    "use one",
);
pub(crate) const SHELL_LINK: Rule = Rule::new(
    "FLD0305",
    "DL4005",
    Warning,
    "`/bin/sh` is replaced by a link",
    "the next update of the package takes it back",
    "use `SHELL`",
);
pub(crate) const PIPEFAIL: Rule = Rule::new(
    "FLD0306",
    "DL4006",
    Warning,
    "a pipe without `pipefail`",
    "when the first command fails, the build goes on with half of its output",
    "put `SHELL [\"/bin/bash\", \"-o\", \"pipefail\", \"-c\"]` above it",
);
pub(crate) const CONSECUTIVE: Rule = Rule::new(
    "FLD0307",
    "DL3059",
    Info,
    "`RUN`s that follow one another",
    "each makes a layer; what one deletes stays in that of another",
    "join them by `&&`, or use a heredoc",
);
pub(crate) const USERADD: Rule = Rule::new(
    "FLD0308",
    "DL3046",
    Warning,
    "`useradd` without `-l` and with a high id",
    "it writes a sparse file of gigabytes, which the layer holds in full",
    "add `-l`",
)
.mending();
pub(crate) const WGET_PROGRESS: Rule = Rule::new(
    "FLD0309",
    "DL3047",
    Info,
    "`wget` with its progress bar",
    "the log of the build gets thousands of lines",
    "add `--progress=dot:giga`, or `-nv`",
);
pub(crate) const PIPE_TO_SHELL: Rule = Rule::new(
    "FLD0310",
    "",
    Warning,
    "a download is run by a shell",
    "whoever has the server or the name today decides what is in the image",
    "download a release, compare its checksum, then run it",
);
pub(crate) const WORLD_WRITABLE: Rule = Rule::new(
    "FLD0311",
    "",
    Warning,
    "files that everybody may write",
    "any process in the container can replace what others run",
    "give them to one user with `COPY --chown`",
);
pub(crate) const DELETED_LATER: Rule = Rule::new(
    "FLD0312",
    "",
    Warning,
    "files are deleted in a layer of their own",
    "the layer below still holds them: the image is no smaller, and they can be read",
    "delete them in the `RUN` that makes them",
);
pub(crate) const NO_CHECK: Rule = Rule::new(
    "FLD0313",
    "",
    Warning,
    "a download whose origin is not checked",
    "anybody on the way can replace it",
    "leave the option away, and add the certificate that is missing",
);
pub(crate) const PRIVILEGED_RUN: Rule = Rule::new(
    "FLD0314",
    "",
    Warning,
    "`RUN` with the host's network or without a sandbox",
    "the build can reach what the builder can reach",
    "leave the flag away",
);
