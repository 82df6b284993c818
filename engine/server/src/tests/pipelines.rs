//! The pipelines of the harness.

pub(super) const PIPELINES: [&str; 18] = [
    "apiVersion: fairlead.dev/v1
kind: Pipeline
name: ship
on: {manual: {}}
params:
  image: {type: image}
steps:
  note: {uses: note, with: {text: '{{ params.image }}'}}
",
    "apiVersion: fairlead.dev/v1
kind: Pipeline
name: follow
on:
  registry.push: {repository: base/*}
params:
  image: {type: image, default: 'registry.example.com/apps/shop:stable'}
steps:
  note: {uses: note, with: {text: '{{ params.image }}'}}
",
    "apiVersion: fairlead.dev/v1
kind: Pipeline
name: promote
on:
  registry.push: {repository: apps/*, tags: '*'}
steps:
  note: {uses: note, with: {text: '{{ event.image }}'}}
",
    "apiVersion: fairlead.dev/v1
kind: Pipeline
name: build
on:
  git.push: [{branches: [main]}, {tags: 'v*'}]
  manual: {}
params:
  version: {type: string, default: none}
steps:
  note: {uses: note, with: {text: 'build {{ params.version }}'}}
",
    "apiVersion: fairlead.dev/v1
kind: Pipeline
name: nightly
steps:
  note: {uses: note, with: {text: night}}
",
    "apiVersion: fairlead.dev/v1
kind: Pipeline
name: gated
on: {manual: {}}
concurrency: {group: gated, max: 1}
steps:
  ask: {approval: {from: [ann, qa]}}
  note: {uses: note, with: {text: done}, needs: [ask]}
",
    "apiVersion: fairlead.dev/v1
kind: Pipeline
name: free
on: {manual: {}}
steps:
  ask: {approval: {from: [ann]}}
  note: {uses: note, with: {text: done}, needs: [ask]}
",
    "apiVersion: fairlead.dev/v1
kind: Pipeline
name: asking
on: {manual: {}}
steps:
  proof:
    uses: proof
    with: {image: sha256:bf07a7fbb825fc0aae7bf4a1177b2b31fcf8a3feeaf7092761e18c859ee52a9c}
    wait: {deadline: 10h, every: 5h}
",
    "apiVersion: fairlead.dev/v1
kind: Pipeline
name: asking-there
on: {manual: {}}
steps:
  proof:
    uses: proof
    with: {image: 'registry.example.com/apps/shop@sha256:bf07a7fbb825fc0aae7bf4a1177b2b31fcf8a3feeaf7092761e18c859ee52a9c'}
    wait: {deadline: 10h, every: 5h}
  note: {uses: note, with: {text: meanwhile}}
",
    "apiVersion: fairlead.dev/v1
kind: Pipeline
name: newest
on: {manual: {}}
concurrency: {group: newest, policy: supersede}
steps:
  ask: {approval: {from: [ann]}}
",
    "apiVersion: fairlead.dev/v1
kind: Pipeline
name: three
on: {manual: {}}
concurrency: {group: three, max: 3}
steps:
  ask: {approval: {from: [ann]}}
",
    "apiVersion: fairlead.dev/v1
kind: Pipeline
name: busy
on: {manual: {}}
concurrency: {group: busy, max: 3}
steps:
  note: {uses: note, with: {text: busy}}
",
    "apiVersion: fairlead.dev/v1
kind: Pipeline
name: named
on: {manual: {}}
params:
  version: {type: string, default: ''}
concurrency: '{{ params.version }}'
steps:
  note: {uses: note, with: {text: named}}
",
    "apiVersion: fairlead.dev/v1
kind: Pipeline
name: one
on: {manual: {}}
concurrency: {group: one, max: 50}
steps:
  note: {uses: note, with: {text: one}}
",
    "apiVersion: fairlead.dev/v1
kind: Pipeline
name: two
on: {manual: {}}
concurrency: {group: two, max: 50}
steps:
  note: {uses: note, with: {text: two}}
",
    "apiVersion: fairlead.dev/v1
kind: Pipeline
name: both
on: {manual: {}}
steps:
  ask: {approval: {from: [ann, qa], min: 2, expires: 1d, not: [eve]}}
",
    "apiVersion: fairlead.dev/v1
kind: Pipeline
name: later
on: {manual: {}}
steps:
  soak: {wait: {for: 1h}}
  each: {for_each: [{name: web}], uses: note, with: {text: '{{ item.name }}'}, needs: [soak]}
",
    "apiVersion: fairlead.dev/v1
kind: Pipeline
name: deeds
on: {manual: {}}
steps:
  deed: {uses: deed, with: {text: done}}
  note: {uses: note, with: {text: '{{ steps.deed.text }}'}}
",
];
