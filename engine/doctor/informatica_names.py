"""Names of Informatica's properties and regions, written without case, blanks and signs. PURE.

What must not live here: what is done with a property.
"""

from __future__ import annotations

import re

_SIGNS = re.compile(r"[^a-z0-9]")


def plain(name: str) -> str:
    """``name`` as the tables have it."""
    return _SIGNS.sub("", name.casefold())


# As the connectors' list names them. https://docs.aws.amazon.com/general/latest/gr/s3.html
REGIONS = {
    "africacapetown": "af-south-1",
    "asiapacifichongkong": "ap-east-1",
    "asiapacifichyderabad": "ap-south-2",
    "asiapacificjakarta": "ap-southeast-3",
    "asiapacificmelbourne": "ap-southeast-4",
    "asiapacificmumbai": "ap-south-1",
    "asiapacificosaka": "ap-northeast-3",
    "asiapacificosakalocal": "ap-northeast-3",
    "asiapacificseoul": "ap-northeast-2",
    "asiapacificsingapore": "ap-southeast-1",
    "asiapacificsydney": "ap-southeast-2",
    "asiapacifictokyo": "ap-northeast-1",
    "awsgovcloudus": "us-gov-west-1",
    "awsgovclouduseast": "us-gov-east-1",
    "awsgovclouduswest": "us-gov-west-1",
    "canadacentral": "ca-central-1",
    "chinabeijing": "cn-north-1",
    "chinaningxia": "cn-northwest-1",
    "eufrankfurt": "eu-central-1",
    "euireland": "eu-west-1",
    "eulondon": "eu-west-2",
    "eumilan": "eu-south-1",
    "euparis": "eu-west-3",
    "euspain": "eu-south-2",
    "eustockholm": "eu-north-1",
    "euzurich": "eu-central-2",
    "europespain": "eu-south-2",
    "europezurich": "eu-central-2",
    "israeltelaviv": "il-central-1",
    "middleeastbahrain": "me-south-1",
    "middleeastuae": "me-central-1",
    "southamericasaopaulo": "sa-east-1",
    "useastnvirginia": "us-east-1",
    "useastohio": "us-east-2",
    "uswestncalifornia": "us-west-1",
    "uswestoregon": "us-west-2",
}
TITLES = {
    "accesskey": "Access Key",
    "accesskeyid": "Access Key ID",
    "credentialprofilefilepath": "Credential Profile File Path",
    "externalid": "External Id",
    "folderpath": "Folder Path",
    "iamrolearn": "IAM Role ARN",
    "profilename": "Profile Name",
    "redshiftiamrolearn": "Redshift IAM Role ARN",
    "regionname": "Region Name",
    "restendpoint": "REST Endpoint",
    "s3bucketname": "S3 Bucket Name",
    "s3iamrolearn": "S3 IAM Role ARN",
    "secretaccesskey": "Secret Access Key",
    "secretkey": "Secret Key",
    "temporarycredentialduration": "Temporary Credential Duration",
    "useec2roletoassumerole": "Use EC2 Role to Assume Role",
}
REFUSED = {
    "mastersymmetrickey": "client-side encryption is not done here, and AWS ended it for COPY and "
    "UNLOAD (30 April 2026); use SSE-KMS",
    "federatedssoidp": "single sign-on is not a property here: give a source by --source",
    "redshiftaccesskeyid": "keys of their own for the database are not read; see --copy-role",
    "redshiftsecretaccesskey": "keys of their own for the database are not read; see --copy-role",
}
# Known, and of no weight for how S3 is reached.
PASSED_OVER = frozenset(
    {
        "clusteridentifier",
        "clusterregion",
        "connectionname",
        "customermasterkeyid",
        "databasename",
        "description",
        "endpointdnsnameforamazons3",
        "endpointdnsnameforawskms",
        "endpointdnsnameforawssts",
        "federateduser",
        "federatedusername",
        "federateduserpassword",
        "idpssourl",
        "jdbcurl",
        "multipartdownloadthreshold",
        "otherauthenticationtype",
        "password",
        "rolearn",
        "runtimeenvironment",
        "s3accounttype",
        "s3vpcendpointtype",
        "samlidentityproviderarn",
        "schema",
        "tracinglevel",
        "type",
        "useec2role",
        "username",
    }
)
